/* ITIMER_REAL whose signal waits: blocked for long, then it goes off again and again. */
#define _GNU_SOURCE
#include "target_api.h"
#include <signal.h>
#include <sys/time.h>

static volatile int alarms;

static void count(int number)
{
	(void)number;
	alarms++;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	struct itimerval real = {{0, 20000}, {0, 1000}}, now;
	sigset_t set, none;
	signal(SIGALRM, count);
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	check(setitimer(ITIMER_REAL, &real, NULL) == 0, "setitimer");
	usleep(50000);
	checkpoint();
	check(alarms == 0, "it was blocked");
	getitimer(ITIMER_REAL, &now);
	check(now.it_interval.tv_usec == 20000, "the interval");
	sigpending(&set);
	check(sigismember(&set, SIGALRM), "it waits no more");
	sigemptyset(&none);
	sigsuspend(&none); /* which lets one signal in, however soon the next one comes */
	check(alarms == 1, "it waited");
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int i = 0; i < 200 && alarms < 4; i++)
		usleep(20000);
	check(alarms >= 4, "it goes off no more");
	pass();
}
