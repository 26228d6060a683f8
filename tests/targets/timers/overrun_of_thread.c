/* Signals of interval timers that wait for single threads (SIGEV_THREAD_ID): each goes on waiting as one, and counts on. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif
static volatile int ready, done;
static sigset_t set;

static timer_t timer_of(clockid_t clock, int number, long interval_ns)
{
	timer_t made;
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = number, .sigev_value.sival_int = number};
	struct itimerspec every = {{0, interval_ns}, {0, interval_ns}};
	event.sigev_notify_thread_id = syscall(SYS_gettid);
	check(timer_create(clock, &event, &made) == 0 && timer_settime(made, 0, &every, NULL) == 0, "timer");
	return made;
}

static int take(int number)
{
	struct timespec none = {0, 0};
	siginfo_t info;
	sigset_t one;
	sigemptyset(&one);
	sigaddset(&one, number);
	int taken = sigtimedwait(&one, &info, &none);
	check(taken == -1 || (info.si_code == SI_TIMER && info.si_value.sival_int == number), "a siginfo");
	return taken == number;
}

static void *thread(void *unused)
{
	timer_t quick = timer_of(CLOCK_MONOTONIC, SIGRTMIN + 1, 2000000), slow = timer_of(CLOCK_REALTIME, SIGRTMIN + 2, 50000000);
	timer_t taken = timer_of(CLOCK_BOOTTIME, SIGRTMIN + 3, 1000000);
	struct itimerspec off = {{0, 0}, {0, 0}};
	union sigval value = {.sival_int = 7};
	siginfo_t info;
	sigset_t one;
	struct timespec from, to;
	pthread_sigqueue(pthread_self(), SIGRTMIN + 4, value);
	usleep(500000);
	check(take(SIGRTMIN + 3), "taken");
	int overrun = timer_getoverrun(taken);
	check(overrun > 100, "the overrun before");
	__sync_fetch_and_add(&ready, 1);
	while (!done)
		usleep(1000);
	check(timer_getoverrun(taken) == overrun, "the overrun of the signal that was taken");
	clock_gettime(CLOCK_MONOTONIC, &from);
	check(take(SIGRTMIN + 2), "the slow timer's signal");
	check(timer_getoverrun(slow) >= 8, "the slow timer's overrun");
	int another = take(SIGRTMIN + 2), more = timer_getoverrun(slow);
	clock_gettime(CLOCK_MONOTONIC, &to);
	long ms = (to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000;
	check(!another || more <= ms / 50, "another signal of the slow timer");
	check(take(SIGRTMIN + 1), "the quick timer's signal");
	check(timer_getoverrun(quick) >= 200, "the quick timer's overrun");
	timer_settime(slow, 0, &off, NULL);
	sigemptyset(&one);
	sigaddset(&one, SIGRTMIN + 4);
	check(sigwaitinfo(&one, &info) == SIGRTMIN + 4 && info.si_value.sival_int == 7, "a signal of no timer");
	sigemptyset(&one);
	sigaddset(&one, SIGRTMIN + 1);
	check(sigwaitinfo(&one, &info) == SIGRTMIN + 1, "the quick timer goes on");
	return unused;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t threads[2];
	sigemptyset(&set);
	for (int number = 1; number < 5; number++)
		sigaddset(&set, SIGRTMIN + number);
	sigprocmask(SIG_BLOCK, &set, NULL);
	pthread_create(&threads[0], NULL, thread, NULL);
	pthread_create(&threads[1], NULL, thread, NULL);
	while (ready < 2)
		usleep(1000);
	checkpoint();
	check(!take(SIGRTMIN + 1) && !take(SIGRTMIN + 2), "the first thread got a signal of another");
	done = 1;
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	pass();
}
