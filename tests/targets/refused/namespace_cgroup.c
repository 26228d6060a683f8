/* A child in a namespace of its own (CLONE_NEWCGROUP). */
#define NAMESPACE CLONE_NEWCGROUP
#include "namespace_child.h"
