/* A child in a pid namespace of its own. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sched.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	start(argc, argv);
	int status;
	check(unshare(CLONE_NEWPID) == 0, "unshare");
	pid_t pid = fork();
	if (pid == 0) {
		int tampered;
		while (!gone(&tampered))
			usleep(20000);
		_exit(getpid() == 1 ? 5 : 6);
	}
	checkpoint();
	check(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5, "the child");
	pass();
}
