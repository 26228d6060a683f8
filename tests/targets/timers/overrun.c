/* Overruns of POSIX timers: of the last signal taken; of signals that wait, and go on waiting as one. */
#define _GNU_SOURCE
#include "target_api.h"
#include <signal.h>
#include <time.h>

int main(int argc, char **argv)
{
	start(argc, argv);
	sigset_t set;
	siginfo_t info;
	timer_t waiting, taken, far, slow;
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
	struct itimerspec every = {{0, 1000000}, {0, 1000000}}, later = {{0, 0}, {1000, 0}}, now;
	struct itimerspec seldom = {{0, 300000000}, {0, 1000000}};
	struct timespec none = {0, 0};
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigaddset(&set, SIGRTMIN + 1);
	sigaddset(&set, SIGRTMIN + 2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	event.sigev_value.sival_int = 11;
	check(timer_create(CLOCK_MONOTONIC, &event, &waiting) == 0, "timer_create");
	event.sigev_signo = SIGRTMIN + 1;
	event.sigev_value.sival_int = 12;
	check(timer_create(CLOCK_MONOTONIC, &event, &taken) == 0, "timer_create");
	event.sigev_signo = SIGRTMIN + 2;
	check(timer_create(CLOCK_REALTIME, &event, &slow) == 0, "timer_create");
	event.sigev_notify = SIGEV_NONE;
	check(timer_create(CLOCK_REALTIME, &event, &far) == 0, "timer_create");
	timer_settime(waiting, 0, &every, NULL);
	timer_settime(taken, 0, &every, NULL);
	timer_settime(far, 0, &later, NULL);
	timer_settime(slow, 0, &seldom, NULL);
	usleep(1000000);
	sigdelset(&set, SIGRTMIN);
	sigdelset(&set, SIGRTMIN + 2);
	check(sigtimedwait(&set, &info, &none) == SIGRTMIN + 1, "taken");
	int overrun = timer_getoverrun(taken);
	check(overrun >= 500, "overrun before");
	checkpoint();
	check(timer_getoverrun(taken) == overrun, "the overrun of the signal that was taken");
	sigaddset(&set, SIGRTMIN);
	check(sigtimedwait(&set, &info, &none) == SIGRTMIN, "the waiting signal");
	check(info.si_value.sival_int == 11 && info.si_code == SI_TIMER, "its siginfo");
	errno = timer_getoverrun(waiting);
	check(errno >= 900 && errno < 900000, "the overrun of the waiting signal");
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 2);
	check(sigtimedwait(&set, &info, &none) == SIGRTMIN + 2, "the signal of the slow timer");
	errno = timer_getoverrun(slow);
	check(errno >= 3 && errno < 3000, "the overrun of the slow timer");
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	usleep(50000);
	check(sigtimedwait(&set, &info, &none) == SIGRTMIN, "the next");
	check(timer_getoverrun(waiting) >= 10 && timer_getoverrun(waiting) < 100000, "the next overrun");
	check(timer_gettime(far, &now) == 0 && now.it_value.tv_sec > 900 && now.it_value.tv_sec <= 1000, "far");
	pass();
}
