/* A child in a namespace of its own (CLONE_NEWNET). */
#define NAMESPACE CLONE_NEWNET
#include "namespace_child.h"
