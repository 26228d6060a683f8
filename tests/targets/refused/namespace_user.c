/* A child in a namespace of its own (CLONE_NEWUSER). */
#define NAMESPACE CLONE_NEWUSER
#include "namespace_child.h"
