/* Filters put on all threads at once (TSYNC), one more on one thread, logged ones; inherited by a child. */
#define _GNU_SOURCE
#include "target_api.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static pthread_barrier_t barrier;
static int install(int nr, unsigned action, unsigned flags)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog p = {4, f};
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &p);
}
static int filters(void)
{
	char line[256];
	int n = -1;
	char path[64];
	snprintf(path, sizeof path, "/proc/self/task/%d/status", (int)syscall(SYS_gettid));
	FILE *f = fopen(path, "r");
	while (fgets(line, sizeof line, f))
		if (!strncmp(line, "Seccomp_filters:", 16)) n = atoi(line + 16);
	fclose(f);
	return n;
}
static void *worker(void *a)
{
	long n = (long)a;
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	if (n == 1) check(install(SYS_getpgrp, SECCOMP_RET_ERRNO | 77, 0) == 0, "one more");
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	check(syscall(SYS_getuid) == -1 && errno == 33, "tsync filter");
	check(syscall(SYS_getgid) == -1 && errno == 34, "log filter");
	check(n != 1 || (syscall(SYS_getpgrp) == -1 && errno == 77), "own filter");
	check(n == 1 || syscall(SYS_getpgrp) > 0, "somebody else's filter");
	check(filters() == (n == 1 ? 3 : 2), "number");
	check(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1, "nnp");
	return NULL;
}
int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t t[3];
	pthread_barrier_init(&barrier, NULL, 4);
	for (long i = 0; i < 3; i++) pthread_create(&t[i], NULL, worker, (void *)i);
	pthread_barrier_wait(&barrier);
	check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "nnp");
	check(install(SYS_getuid, SECCOMP_RET_ERRNO | 33, SECCOMP_FILTER_FLAG_TSYNC) == 0, "tsync");
	check(install(SYS_getgid, SECCOMP_RET_ERRNO | 34, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG) == 0, "tsync log");
	pthread_barrier_wait(&barrier);
	int tampered;
	pid_t child = fork();
	if (!child) {
		while (!gone(&tampered)) usleep(20000);
		_exit(syscall(SYS_getuid) == -1 && errno == 33 && syscall(SYS_getgid) == -1 && errno == 34 && filters() == 2 ? 5 : 6);
	}
	pthread_barrier_wait(&barrier);
	checkpoint();
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
	int s;
	check(waitpid(child, &s, 0) == child && WEXITSTATUS(s) == 5, "child");
	check(syscall(SYS_getuid) == -1 && errno == 33 && filters() == 2, "leader");
	pass();
}
