/* Processes that share memory, signal actions and descriptors, but are no threads of each other. */
#define _GNU_SOURCE
#include "target_api.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

static volatile int shared, seen;
static char go[512];

static void count(int number)
{
	seen += number;
}

/* Nothing that allocates: these processes have one thread's storage, which malloc takes for its own. */
static int other(void *unused)
{
	(void)unused;
	while (access(go, F_OK))
		usleep(20000);
	shared = 77;
	signal(SIGUSR2, count);
	return dup2(0, 160) == 160 ? 9 : 1;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	snprintf(go, sizeof go, "%s/go", argv[1]);
	int status, flags = CLONE_VM | CLONE_SIGHAND | CLONE_FILES | CLONE_FS | SIGCHLD;
	pid_t pid = clone(other, (char *)malloc(65536) + 65536, flags, NULL);
	pid_t quiet = clone(other, (char *)malloc(65536) + 65536, flags & ~SIGCHLD, NULL);
	checkpoint();
	check(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 9, "the other process");
	check(waitpid(quiet, &status, __WCLONE) == quiet && WEXITSTATUS(status) == 9, "the one without a signal");
	check(shared == 77 && fcntl(160, F_GETFD) == 0, "sharing");
	raise(SIGUSR2);
	check(seen == SIGUSR2, "the handler set by the other");
	pass();
}
