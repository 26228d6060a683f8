/* A child in an IPC namespace of its own, in which there is a message queue. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sched.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	start(argc, argv);
	int status, ends[2];
	char byte;
	check(pipe(ends) == 0, "pipe");
	pid_t pid = fork();
	if (pid == 0) {
		int tampered;
		if (unshare(CLONE_NEWIPC) == -1 || msgget(IPC_PRIVATE, 0600) == -1)
			skip("no such namespaces");
		check(write(ends[1], "x", 1) == 1, "write");
		while (!gone(&tampered))
			usleep(20000);
		_exit(5);
	}
	check(read(ends[0], &byte, 1) == 1, "read");
	checkpoint();
	check(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5, "the child");
	pass();
}
