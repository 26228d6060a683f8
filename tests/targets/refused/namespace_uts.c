/* A child in a namespace of its own (CLONE_NEWUTS). */
#define NAMESPACE CLONE_NEWUTS
#include "namespace_child.h"
