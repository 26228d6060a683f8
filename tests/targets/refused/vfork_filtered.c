/* A parent under a seccomp filter waits in vfork: only a tracer could read the filter, and nobody can trace it there. */
#define _GNU_SOURCE
#include "target_api.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog program = {1, code};
	int status;
	start(argc, argv);
	int ends[2];
	char byte;
	check(pipe(ends) == 0, "pipe");
	pid_t parent = fork();
	if (parent == 0) {
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
			skip("no seccomp filters");
		pid_t pid = vfork();
		if (pid == 0) {
			int tampered;
			check(write(ends[1], "x", 1) == 1, "write");
			while (!gone(&tampered))
				usleep(20000);
			_exit(5);
		}
		_exit(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5 ? 8 : 9);
	}
	check(read(ends[0], &byte, 1) == 1, "the child is there");
	await_state(parent, 'D');
	checkpoint();
	check(waitpid(parent, &status, 0) == parent && WEXITSTATUS(status) == 8, "the parent");
	pass();
}
