/* A parent that waits in vfork for a child with a memory of its own (CLONE_VFORK without CLONE_VM). */
#define _GNU_SOURCE
#include "target_api.h"
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	start(argc, argv);
	int ends[2];
	char byte;
	check(pipe(ends) == 0, "pipe");
	pid_t parent = fork();
	if (parent == 0) {
		pid_t pid = syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);
		if (pid == 0) {
			int tampered;
			check(write(ends[1], "x", 1) == 1, "write");
			while (!gone(&tampered))
				usleep(20000);
			_exit(5);
		}
		int status;
		_exit(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5 ? 8 : 9);
	}
	check(read(ends[0], &byte, 1) == 1, "the child is there");
	await_state(parent, 'D');
	checkpoint();
	int status;
	check(waitpid(parent, &status, 0) == parent && WEXITSTATUS(status) == 8, "the parent");
	pass();
}
