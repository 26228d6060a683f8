/* Timers on the CPU clocks: each thread's own, the process's, a child's; they go off where time is spent, no other. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif
enum { N = 3 };
static volatile int hits[N], go, tids[N], who[N];
static int ids[N];
static pthread_barrier_t barrier;
static void hit(int n, siginfo_t *i, void *u) { int k = i->si_value.sival_int; hits[k]++; who[k] = syscall(SYS_gettid); }
static void *run(void *a)
{
	long k = (long)a;
	tids[k] = syscall(SYS_gettid);
	struct sigevent e = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 1, .sigev_value.sival_int = k, .sigev_notify_thread_id = tids[k]};
	check(syscall(SYS_timer_create, CLOCK_THREAD_CPUTIME_ID, &e, &ids[k]) == 0, "timer_create");
	struct itimerspec t = {{0, 0}, {0, 300000000}};
	check(syscall(SYS_timer_settime, ids[k], 0, &t, NULL) == 0, "settime");
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	if (k == 1) /* only this one works */
		while (!hits[1]) for (volatile int x = 0; x < 1000000; x++) ;
	pthread_barrier_wait(&barrier);
	return NULL;
}
int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t t[N];
	int p, c;
	clockid_t childs;
	struct sigaction a = {.sa_sigaction = hit, .sa_flags = SA_SIGINFO | SA_RESTART};
	sigaction(SIGRTMIN + 1, &a, NULL);
	pthread_barrier_init(&barrier, NULL, N + 1);
	for (long k = 0; k < N; k++) pthread_create(&t[k], NULL, run, (void *)k);
	pthread_barrier_wait(&barrier);
	pid_t child = fork();
	if (!child) for (;;) pause();
	check(clock_getcpuclockid(child, &childs) == 0, "the child's clock");
	struct sigevent e = {.sigev_notify = SIGEV_NONE};
	check(syscall(SYS_timer_create, CLOCK_PROCESS_CPUTIME_ID, &e, &p) == 0, "process timer");
	check(syscall(SYS_timer_create, childs, &e, &c) == 0, "child timer");
	struct itimerspec s = {{5, 0}, {50, 0}}, now;
	syscall(SYS_timer_settime, p, 0, &s, NULL);
	syscall(SYS_timer_settime, c, 0, &s, NULL);
	checkpoint();
	check(syscall(SYS_timer_gettime, p, &now) == 0 && now.it_interval.tv_sec == 5 && now.it_value.tv_sec > 40 && now.it_value.tv_sec <= 50, "process timer left");
	check(syscall(SYS_timer_gettime, c, &now) == 0 && now.it_interval.tv_sec == 5 && now.it_value.tv_sec > 40 && now.it_value.tv_sec <= 50, "child timer left");
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	for (int k = 0; k < N; k++) pthread_join(t[k], NULL);
	fprintf(stderr, "%d %d %d\n", hits[0], hits[1], hits[2]);
	check(hits[0] == 0 && hits[1] == 1 && hits[2] == 0 && who[1] == tids[1], "went off in the right thread");
	kill(child, SIGKILL);
	pass();
}
