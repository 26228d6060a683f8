/* POSIX timers set to a point of CLOCK_REALTIME, once and again and again: they keep to it, however long the dump lasted. */
#define _GNU_SOURCE
#include "target_api.h"
#include <signal.h>
#include <time.h>

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_REALTIME, &time);
	return time.tv_sec + time.tv_nsec * 1e-9;
}

static timer_t set(int flags, double value, long interval)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
	struct itimerspec spec = {{interval, 0}, {(time_t)value, (long)((value - (time_t)value) * 1e9)}};
	timer_t timer;
	if (timer_create(CLOCK_REALTIME, &event, &timer) || timer_settime(timer, flags, &spec, NULL))
		fail("the timer cannot be set");
	return timer;
}

static double left(timer_t timer)
{
	struct itimerspec spec;
	check(timer_gettime(timer, &spec) == 0, "timer_gettime");
	return spec.it_value.tv_sec + spec.it_value.tv_nsec * 1e-9;
}

static void near(timer_t timer, double moment, const char *what)
{
	char text[120];
	double from = now(), off = from + left(timer) - moment, took = now() - from; /* it may be kept waiting in between */
	snprintf(text, sizeof text, "%s: %f s late", what, off);
	check(off > -0.05 - took && off < 0.05, text);
}

int main(int argc, char **argv)
{
	start(argc, argv);
	sigset_t set_;
	sigemptyset(&set_);
	sigaddset(&set_, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set_, NULL);
	double begin = now();
	timer_t once = set(TIMER_ABSTIME, begin + 1000, 0), again = set(TIMER_ABSTIME, begin + 2000, 7),
		unset = set(TIMER_ABSTIME, begin + 3000, 0), for_a_while = set(0, 1000, 0);
	timer_settime(unset, 0, &(struct itimerspec){0}, NULL);
	checkpoint();
	near(once, begin + 1000, "set once");
	near(again, begin + 2000, "set with a period");
	check(left(unset) == 0, "the timer that was not armed");
	check(left(for_a_while) > 500 && left(for_a_while) <= 1000, "the relative timer");
	timer_t soon = set(TIMER_ABSTIME, now() + 0.2, 0);
	(void)soon;
	check(sigwaitinfo(&set_, NULL) == SIGRTMIN, "sigwaitinfo");
	pass();
}
