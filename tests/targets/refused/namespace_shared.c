/* A child in a UTS namespace that a process outside the tree is in, too. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	start(argc, argv);
	int status, ends[2], tampered;
	pid_t pid;
	check(pipe(ends) == 0, "pipe");
	pid_t root = getpid();
	pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWUTS) == -1)
			skip("no such namespaces");
		pid_t middle = fork();
		if (middle == 0) {
			if (fork() == 0) {
				close(ends[0]);
				close(ends[1]);
				while (kill(root, 0) == 0)
					usleep(20000);
			}
			_exit(0);
		}
		waitpid(middle, &status, 0);
		check(write(ends[1], "x", 1) == 1, "write");
		while (!gone(&tampered))
			usleep(20000);
		_exit(5);
	}
	char byte;
	check(read(ends[0], &byte, 1) == 1, "read");
	checkpoint();
	check(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5, "the child");
	pass();
}
