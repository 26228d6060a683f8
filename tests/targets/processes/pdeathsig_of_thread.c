/* The parent-death signal of a child of a thread: it comes when that thread ends. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
static pid_t child;
static int stop, p[2];
static void got(int n) { _exit(n == SIGUSR2 ? 42 : 43); }
static void *parent(void *u)
{
	child = fork();
	if (!child) {
		signal(SIGUSR2, got);
		prctl(PR_SET_PDEATHSIG, SIGUSR2);
		write(p[1], "x", 1);
		for (;;) pause();
	}
	while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) usleep(10000);
	return NULL;
}
int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t t;
	char c;
	int s;
	pipe(p);
	pthread_create(&t, NULL, parent, NULL);
	read(p[0], &c, 1);
	checkpoint();
	check(waitpid(child, &s, WNOHANG) == 0, "it lives");
	__atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
	check(waitpid(child, &s, 0) == child && WEXITSTATUS(s) == 42, "the signal");
	pthread_join(t, NULL);
	pass();
}
