/* A child in an IPC namespace of its own, in which there is a message queue. */
#define _GNU_SOURCE
#include <sys/ipc.h>
#include <sys/msg.h>
#define NAMESPACE CLONE_NEWIPC
#define FILL msgget(IPC_PRIVATE, 0600)
#include "namespace_child.h"
