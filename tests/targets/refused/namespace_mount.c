/* A child in a namespace of its own (CLONE_NEWNS). */
#define NAMESPACE CLONE_NEWNS
#include "namespace_child.h"
