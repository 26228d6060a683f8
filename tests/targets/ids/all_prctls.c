/* What prctl keeps: each value set away from its default, in the first thread and another where they differ. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <sys/prctl.h>

#define N 9
static const int getters[N] = {PR_GET_DUMPABLE, PR_GET_TIMERSLACK, PR_MCE_KILL_GET, PR_GET_THP_DISABLE,
	PR_GET_NO_NEW_PRIVS, PR_GET_SECUREBITS, PR_GET_KEEPCAPS, 66 /* PR_GET_MDWE */, 72 /* PR_GET_MEMORY_MERGE */};
static long first[N], second[N];
static volatile int step;

static void look(long *values)
{
	for (int i = 0; i < N; i++)
		values[i] = prctl(getters[i], 0, 0, 0, 0);
}

static void *other(void *unused)
{
	long now[N];
	prctl(PR_SET_TIMERSLACK, 123456, 0, 0, 0);
	prctl(PR_SET_SECUREBITS, 0x2f, 0, 0, 0);
	look(second);
	step = 1;
	while (step < 2)
		usleep(1000);
	look(now);
	for (int i = 1; i < N; i++) /* dumpable is the process's */
		if (now[i] != second[i]) {
			fprintf(stderr, "prctl %d: was %ld, is %ld\n", getters[i], second[i], now[i]);
			fail("the other thread's");
		}
	return unused;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t thread;
	long now[N];
	int subreaper = 0, tsc = 0, death = 0;
	prctl(PR_SET_TIMERSLACK, 99999, 0, 0, 0);
	prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0);
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0);
	prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0);
	prctl(71 /* PR_SET_MEMORY_MERGE */, 1, 0, 0, 0);
	pthread_create(&thread, NULL, other, NULL);
	while (step < 1)
		usleep(1000);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	look(first);
	checkpoint();
	look(now);
	for (int i = 0; i < N; i++)
		if (now[i] != first[i]) {
			fprintf(stderr, "prctl %d: was %ld, is %ld\n", getters[i], first[i], now[i]);
			fail("a prctl");
		}
	prctl(PR_GET_CHILD_SUBREAPER, &subreaper, 0, 0, 0);
	prctl(PR_GET_TSC, &tsc, 0, 0, 0);
	prctl(PR_GET_PDEATHSIG, &death, 0, 0, 0);
	check(subreaper == 1 && tsc == PR_TSC_SIGSEGV && death == 0, "a prctl by pointer");
	step = 2;
	pthread_join(thread, NULL);
	pass();
}
