/* A child made by a child with CLONE_PARENT: a sibling, waited for by us; it outlives its maker. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	start(argc, argv);
	pid_t self = getpid(), sibling = 0;
	int ends[2], status;
	check(pipe(ends) == 0, "pipe");
	pid_t maker = fork();
	if (maker == 0) {
		int tampered;
		pid_t pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
		if (pid)
			check(write(ends[1], &pid, sizeof pid) == sizeof pid, "write");
		while (!gone(&tampered))
			usleep(20000);
		if (pid)
			_exit(waitpid(pid, &status, 0) == -1 && errno == ECHILD ? 3 : 4);
		usleep(100000);
		_exit(getppid() == self ? 5 : 6);
	}
	check(read(ends[0], &sibling, sizeof sibling) == sizeof sibling, "read");
	checkpoint();
	check(waitpid(maker, &status, 0) == maker && WEXITSTATUS(status) == 3, "the maker");
	check(waitpid(sibling, &status, 0) == sibling && WEXITSTATUS(status) == 5, "the sibling");
	pass();
}
