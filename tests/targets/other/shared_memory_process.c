/* Two processes in one address space (clone with CLONE_VM, without CLONE_THREAD). */
#define _GNU_SOURCE
#include "target_api.h"
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

static volatile int count, stop;

static int other(void *unused)
{
	(void)unused;
	while (!stop) {
		count++;
		usleep(1000);
	}
	return 6;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	char *stack = malloc(65536);
	pid_t pid = clone(other, stack + 65536, CLONE_VM | SIGCHLD, NULL);
	int status;
	checkpoint();
	for (int before = count; count == before;)
		usleep(1000);
	stop = 1;
	check(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 6, "the other process");
	pass();
}
