/* Sleeps on CPU clocks, the process's and a thread's: they end when three seconds of it are spent, before the dump or after. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <time.h>

enum { SECONDS = 3, SLEEPERS = 3 };
static volatile int burning, over;
static volatile double limit; /* of the process's CPU time */
static clockid_t clocks[SLEEPERS];
static double ended[SLEEPERS];

static double now(clockid_t clock)
{
	struct timespec time;
	clock_gettime(clock, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void *burn(void *unused)
{
	while (!over) {
		if (!burning || now(CLOCK_PROCESS_CPUTIME_ID) >= limit) {
			usleep(50000); /* so seldom that a long wait for the dump costs no CPU time to speak of */
			continue;
		}
		for (volatile int i = 0; burning && i < 100000; i++)
			;
	}
	return unused;
}

static void *sleep_for(void *argument)
{
	long which = (long)argument;
	struct timespec time = {SECONDS, 0}, rest;
	int error = clock_nanosleep(clocks[which], 0, &time, which == 1 ? &rest : NULL);
	check(error == 0, "clock_nanosleep");
	ended[which] = now(clocks[which]);
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t burner, sleepers[SLEEPERS];
	double before[SLEEPERS], after[SLEEPERS];
	pthread_create(&burner, NULL, burn, NULL);
	clocks[0] = clocks[1] = CLOCK_PROCESS_CPUTIME_ID;
	pthread_getcpuclockid(burner, &clocks[2]);
	for (int i = 0; i < SLEEPERS; i++)
		before[i] = now(clocks[i]);
	for (long i = 0; i < SLEEPERS; i++)
		pthread_create(&sleepers[i], NULL, sleep_for, (void *)i);
	usleep(100000);
	limit = before[0] + 2;
	burning = 1;
	while (now(CLOCK_PROCESS_CPUTIME_ID) < limit)
		usleep(1000);
	burning = 0;
	usleep(50000);
	for (int i = 0; i < SLEEPERS; i++)
		before[i] = now(clocks[i]) - before[i];
	checkpoint();
	for (int i = 0; i < SLEEPERS; i++)
		after[i] = now(clocks[i]);
	limit = 1e9;
	burning = 1;
	for (int i = 0; i < SLEEPERS; i++)
		pthread_join(sleepers[i], NULL);
	over = 1;
	burning = 0;
	pthread_join(burner, NULL);
	for (int i = 0; i < SLEEPERS; i++) {
		double spent = before[i] + ended[i] - after[i];
		fprintf(stderr, "%d: %.3f s, of which %.3f before\n", i, spent, before[i]);
		check(spent > SECONDS - 0.2, "too early"); /* what was spent while waiting for the dump counts, too */
		check(spent < SECONDS + 1.5, "slept again"); /* that would be two seconds more */
	}
	pass();
}
