/* What a thread may set for itself alone: personality, the TSC forbidden, keepcaps, other securebits; the first has none. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <sys/personality.h>
#include <sys/prctl.h>

enum { PERSONALITY, TSC, KEEPCAPS, SECUREBITS, KINDS };
static const char *names[] = {"personality", "TSC mode", "keepcaps", "securebits"};
static volatile int ready, done;

static void set(long kind)
{
	long result = -1;
	if (kind == PERSONALITY)
		result = personality(ADDR_NO_RANDOMIZE | READ_IMPLIES_EXEC | UNAME26);
	if (kind == TSC)
		result = prctl(PR_SET_TSC, PR_TSC_SIGSEGV);
	if (kind == KEEPCAPS)
		result = prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
	if (kind == SECUREBITS)
		result = prctl(PR_SET_SECUREBITS, 1 << 2 | 1 << 3, 0, 0, 0); /* SECBIT_NO_SETUID_FIXUP, locked */
	check(result >= 0, names[kind]);
}

static int is_set(long kind)
{
	int mode = 0;
	if (kind == PERSONALITY)
		return personality(0xffffffff) == (ADDR_NO_RANDOMIZE | READ_IMPLIES_EXEC | UNAME26);
	if (kind == TSC)
		return prctl(PR_GET_TSC, &mode) == 0 && mode == PR_TSC_SIGSEGV;
	if (kind == KEEPCAPS)
		return prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0) == 1;
	return prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) == (1 << 2 | 1 << 3);
}

static void *thread(void *kind)
{
	set((long)kind);
	__sync_fetch_and_add(&ready, 1);
	while (!done)
		usleep(1000); /* which does not read the clock */
	for (long other = 0; other < KINDS; other++)
		check(is_set(other) == (other == (long)kind), names[other]);
	if ((long)kind == TSC)
		prctl(PR_SET_TSC, PR_TSC_ENABLE);
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t threads[KINDS];
	if (geteuid() != 0)
		skip("needs root: securebits");
	for (long kind = 0; kind < KINDS; kind++)
		pthread_create(&threads[kind], NULL, thread, (void *)kind);
	while (ready < KINDS)
		usleep(1000);
	checkpoint();
	for (long kind = 0; kind < KINDS; kind++)
		check(!is_set(kind), "the first thread has another's");
	done = 1;
	for (int kind = 0; kind < KINDS; kind++)
		pthread_join(threads[kind], NULL);
	pass();
}
