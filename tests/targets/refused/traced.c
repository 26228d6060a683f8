/* A child that another task of the tree traces. */
#define _GNU_SOURCE
#include "target_api.h"
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	start(argc, argv);
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGUSR1);
		_exit(5);
	}
	check(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status), "traced");
	checkpoint();
	check(ptrace(PTRACE_CONT, pid, 0, 0) == 0, "cont");
	check(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5, "the child");
	pass();
}
