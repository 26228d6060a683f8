/* The three interval timers with interval and remainder; ITIMER_REAL fires on, by its own interval. */
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
	struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};
	struct itimerval real = {{0, 20000}, {0, 20000}}, virtual = {{7, 8}, {1000, 0}}, prof = {{0, 0}, {2000, 0}}, now;
	sigaction(SIGALRM, &action, NULL);
	check(setitimer(ITIMER_REAL, &real, NULL) == 0, "setitimer");
	check(setitimer(ITIMER_VIRTUAL, &virtual, NULL) == 0, "setitimer");
	check(setitimer(ITIMER_PROF, &prof, NULL) == 0, "setitimer");
	checkpoint();
	getitimer(ITIMER_VIRTUAL, &now);
	check(now.it_interval.tv_sec == 7 && now.it_interval.tv_usec == 8, "the interval");
	check(now.it_value.tv_sec >= 990 && now.it_value.tv_sec <= 1000, "virtual time left");
	getitimer(ITIMER_PROF, &now);
	check(now.it_interval.tv_sec == 0 && now.it_value.tv_sec >= 1990 && now.it_value.tv_sec <= 2000, "prof left");
	getitimer(ITIMER_REAL, &now);
	check(now.it_interval.tv_usec == 20000 && now.it_value.tv_usec <= 20000, "the real interval");
	int before = alarms;
	for (int i = 0; i < 200 && alarms < before + 3; i++)
		usleep(20000);
	check(alarms >= before + 3, "it fires no more");
	pass();
}
