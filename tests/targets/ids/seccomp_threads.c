/* Seccomp of threads: none, strict, filters of different depth, inherited by a child. */
#define _GNU_SOURCE
#include "target_api.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static volatile int ready, step;

static int install(int nr, int error, int flags)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {4, code};
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static void *filtered(void *argument)
{
	long n = (long)argument;
	for (int i = 0; i < n; i++)
		check(install(SYS_getpgid, 40 + i, 0) == 0, "filter");
	__sync_fetch_and_add(&ready, 1);
	while (!step)
		usleep(5000);
	long got = syscall(SYS_getpgid, 0);
	check(n == 0 ? got >= 0 : got == -1 && errno == 40 + n - 1, "the thread's own filters");
	return NULL;
}

static void *strict(void *argument)
{
	static char byte;
	int *ends = argument;
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	__sync_fetch_and_add(&ready, 1);
	if (syscall(SYS_read, ends[0], &byte, 1) == 1)
		syscall(SYS_write, ends[1], "s", 1);
	syscall(SYS_exit, 0);
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t threads[4], hard;
	int to[2], from[2], ends[2], status;
	check(pipe(to) == 0 && pipe(from) == 0, "pipe");
	ends[0] = to[0], ends[1] = from[1];
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	for (long i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, filtered, (void *)i);
	while (ready < 4)
		usleep(1000);
	check(install(SYS_getsid, 77, 0) == 0, "filter");
	pid_t pid = fork();
	if (pid == 0) {
		int tampered;
		while (!gone(&tampered))
			usleep(20000);
		_exit(syscall(SYS_getsid, 0) == -1 && errno == 77 ? 5 : 6);
	}
	pthread_create(&hard, NULL, strict, ends);
	while (ready < 5)
		usleep(1000);
	usleep(50000);
	checkpoint();
	check(write(to[1], "x", 1) == 1, "write");
	char byte;
	check(read(from[0], &byte, 1) == 1 && byte == 's', "the strict thread");
	check(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5, "the child's filter");
	check(syscall(SYS_getsid, 0) == -1 && errno == 77, "our filter");
	step = 1;
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	pass();
}
