/* POSIX timers that outlived the thread they signal, or whose CPU time they measure; the living ones still fire. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static int timers[6];
static pthread_barrier_t barrier;

static int create(clockid_t clock, int tid, int signo)
{
	struct sigevent e = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = signo, .sigev_notify_thread_id = tid,
		.sigev_value.sival_int = 40 + signo};
	int id = -1;
	check(syscall(SYS_timer_create, clock, &e, &id) == 0, "timer_create");
	return id;
}

static void arm(int id, long s, long interval)
{
	struct itimerspec t = {{interval, 0}, {s, 0}};
	check(syscall(SYS_timer_settime, id, 0, &t, NULL) == 0, "timer_settime");
}

static void *dies(void *u)
{
	int tid = syscall(SYS_gettid);
	clockid_t own;
	pthread_getcpuclockid(pthread_self(), &own);
	timers[0] = create(CLOCK_MONOTONIC, tid, SIGRTMIN + 1);
	timers[1] = create(own, tid, SIGRTMIN + 2);
	timers[2] = create(CLOCK_REALTIME, tid, SIGRTMIN + 3);
	struct sigevent e = {.sigev_notify = SIGEV_NONE};
	check(syscall(SYS_timer_create, own, &e, &timers[3]) == 0, "timer_create");
	arm(timers[0], 3600, 5);
	arm(timers[1], 3600, 0);
	arm(timers[3], 3600, 0);
	return NULL;
}

static void *lives(void *u)
{
	sigset_t set;
	siginfo_t info;
	int tid = syscall(SYS_gettid);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 4);
	timers[4] = create(CLOCK_MONOTONIC, tid, SIGRTMIN + 4);
	pthread_barrier_wait(&barrier);
	check(sigwaitinfo(&set, &info) == SIGRTMIN + 4 && info.si_value.sival_int == 40 + SIGRTMIN + 4, "the living thread's timer");
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t a, b;
	sigset_t set;
	struct itimerspec t;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 4);
	sigprocmask(SIG_BLOCK, &set, NULL);
	pthread_barrier_init(&barrier, NULL, 2);
	pthread_create(&a, NULL, dies, NULL);
	pthread_join(a, NULL);
	pthread_create(&b, NULL, lives, NULL);
	pthread_barrier_wait(&barrier);
	usleep(100000);
	checkpoint();
	check(syscall(SYS_timer_gettime, timers[0], &t) == 0 && t.it_value.tv_sec > 3000 && t.it_interval.tv_sec == 5, "the dead thread's timer");
	check(syscall(SYS_timer_gettime, timers[1], &t) == 0, "the dead thread's CPU timer");
	check(syscall(SYS_timer_gettime, timers[2], &t) == 0 && t.it_value.tv_sec == 0, "a disarmed timer");
	check(syscall(SYS_timer_gettime, timers[3], &t) == 0, "a silent CPU timer");
	arm(timers[0], 0, 0);
	arm(timers[4], 1, 0);
	pthread_join(b, NULL);
	for (int i = 0; i < 5; i++)
		check(syscall(SYS_timer_delete, timers[i]) == 0, "timer_delete");
	pass();
}
