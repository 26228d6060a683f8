/* Overruns of POSIX timers: of the last signal taken, kept; of a signal that waits, and goes on waiting as one. */
#define _GNU_SOURCE
#include "target_api.h"
#include <signal.h>
#include <time.h>

int main(int argc, char **argv)
{
	start(argc, argv);
	sigset_t set;
	siginfo_t info;
	timer_t waiting, taken, far;
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
	struct itimerspec every = {{0, 1000000}, {0, 1000000}}, later = {{0, 0}, {1000, 0}}, now;
	struct timespec none = {0, 0};
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigaddset(&set, SIGRTMIN + 1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	event.sigev_value.sival_int = 11;
	check(timer_create(CLOCK_MONOTONIC, &event, &waiting) == 0, "timer_create");
	event.sigev_signo = SIGRTMIN + 1;
	event.sigev_value.sival_int = 12;
	check(timer_create(CLOCK_MONOTONIC, &event, &taken) == 0, "timer_create");
	event.sigev_notify = SIGEV_NONE;
	check(timer_create(CLOCK_REALTIME, &event, &far) == 0, "timer_create");
	timer_settime(waiting, 0, &every, NULL);
	timer_settime(taken, 0, &every, NULL);
	timer_settime(far, 0, &later, NULL);
	usleep(200000);
	sigdelset(&set, SIGRTMIN);
	check(sigtimedwait(&set, &info, &none) == SIGRTMIN + 1, "taken");
	int overrun = timer_getoverrun(taken);
	check(overrun >= 100, "overrun before");
	checkpoint();
	check(timer_getoverrun(taken) == overrun, "the overrun of the signal that was taken");
	sigaddset(&set, SIGRTMIN);
	check(sigtimedwait(&set, &info, &none) == SIGRTMIN, "the waiting signal");
	check(info.si_value.sival_int == 11 && info.si_code == SI_TIMER, "its siginfo");
	check(timer_getoverrun(waiting) >= 0, "the overrun of the waiting signal");
	usleep(50000);
	check(sigtimedwait(&set, &info, &none) == SIGRTMIN, "the next");
	check(timer_getoverrun(waiting) >= 10 && timer_getoverrun(waiting) < 100000, "the next overrun");
	check(timer_gettime(far, &now) == 0 && now.it_value.tv_sec > 900 && now.it_value.tv_sec <= 1000, "far");
	pass();
}
