/* A child in a namespace of its own (CLONE_NEWIPC). */
#define NAMESPACE CLONE_NEWIPC
#include "namespace_child.h"
