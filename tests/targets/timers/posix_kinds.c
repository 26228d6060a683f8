/* POSIX timers on every clock, for the process and for a thread, with gaps in their ids, armed, absolute and not. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif
#define N 12

static volatile pid_t tid;
static volatile int stop;
static clockid_t thread_clock;

static void *other(void *unused)
{
	pthread_getcpuclockid(pthread_self(), &thread_clock);
	tid = syscall(SYS_gettid);
	while (!stop)
		usleep(1000);
	return unused;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t thread;
	sigset_t set;
	siginfo_t info;
	int ids[N * 2], kept[N], count = 0;
	sigfillset(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	pthread_create(&thread, NULL, other, NULL);
	while (!tid)
		usleep(1000);
	clockid_t clocks[N] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_PROCESS_CPUTIME_ID,
		CLOCK_THREAD_CPUTIME_ID, thread_clock, CLOCK_TAI, CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_MONOTONIC,
		CLOCK_REALTIME_ALARM, CLOCK_MONOTONIC};
	for (int i = 0; i < N * 2; i++) {
		struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + i % 5};
		event.sigev_value.sival_ptr = (void *)(0x1122334455660000UL + i);
		if (i / 2 % 3 == 1)
			event.sigev_notify = SIGEV_NONE;
		if (i / 2 % 3 == 2) {
			event.sigev_notify = SIGEV_THREAD_ID;
			event.sigev_notify_thread_id = tid;
		}
		ids[i] = -1;
		if (syscall(SYS_timer_create, clocks[i / 2], &event, &ids[i]) == -1)
			ids[i] = -1;
	}
	for (int i = 0; i < N * 2; i++)
		if (ids[i] != -1 && i % 2 == 0)
			syscall(SYS_timer_delete, ids[i]);
		else if (ids[i] != -1)
			kept[count++] = i;
	check(count >= 10, "timers");
	for (int k = 0; k < count; k++) {
		struct itimerspec when = {{k, 5}, {500 + k, 0}};
		if (k != 3)
			check(syscall(SYS_timer_settime, ids[kept[k]], 0, &when, NULL) == 0, "timer_settime");
	}
	struct itimerspec absolute = {{0, 0}, {0, 0}}, now;
	clock_gettime(CLOCK_MONOTONIC, &absolute.it_value);
	absolute.it_value.tv_sec += 300;
	check(syscall(SYS_timer_settime, ids[kept[1]], TIMER_ABSTIME, &absolute, NULL) == 0, "absolute");
	checkpoint();
	for (int k = 0; k < count; k++) {
		check(syscall(SYS_timer_gettime, ids[kept[k]], &now) == 0, "a timer is gone");
		long most = k == 1 ? 300 : 500 + k;
		if (k == 3)
			check(now.it_value.tv_sec == 0 && now.it_value.tv_nsec == 0, "armed");
		else
			check(now.it_value.tv_sec <= most && now.it_value.tv_sec > most - 120, "what is left");
		check(now.it_interval.tv_sec == (k == 1 || k == 3 ? 0 : k), "the interval");
	}
	for (int k = 0; k < count; k++) {
		struct itimerspec soon = {{0, 0}, {0, 1000000}};
		check(syscall(SYS_timer_settime, ids[kept[k]], 0, &soon, NULL) == 0, "arming");
	}
	int expected = 0, seen = 0;
	for (int k = 0; k < count; k++) {
		expected += kept[k] / 2 % 3 == 0 && clocks[kept[k] / 2] != thread_clock;
	}
	for (volatile long n = 0; n < 50000000; n++)
		;
	struct timespec some = {0, 200000000};
	while (sigtimedwait(&set, &info, &some) > 0) {
		check(info.si_code == SI_TIMER, "si_code");
		long i = (long)info.si_value.sival_ptr - 0x1122334455660000L;
		check(i >= 0 && i < N * 2 && i / 2 % 3 == 0 && info.si_signo == SIGRTMIN + i % 5, "which timer");
		seen++;
	}
	check(seen == expected, "the number of signals");
	pass();
}
