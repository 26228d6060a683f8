/* Two seccomp filters: one call gives EACCES, another ENOTTY; in the parent, a thread and a child. */
#define _GNU_SOURCE
#include "target_api.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void forbid(int nr, int error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {4, code};
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		skip("no seccomp filters");
}

static int holds(void)
{
	return syscall(SYS_getpgrp) == -1 && errno == EACCES && syscall(SYS_acct, NULL) == -1 && errno == ENOTTY &&
	       prctl(PR_GET_SECCOMP) == 2 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
}

static void *thread(void *unused)
{
	int tampered;
	while (!gone(&tampered))
		usleep(20000);
	check(holds(), "the thread's filters");
	return unused;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	forbid(SYS_getpgrp, EACCES);
	forbid(SYS_acct, ENOTTY);
	pthread_t other;
	pthread_create(&other, NULL, thread, NULL);
	pid_t pid = fork();
	if (pid == 0) {
		int tampered;
		while (!gone(&tampered))
			usleep(20000);
		_exit(holds() ? 3 : 4);
	}
	checkpoint();
	check(holds(), "the filters");
	pthread_join(other, NULL);
	int status;
	check(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 3, "the child's filters");
	pass();
}
