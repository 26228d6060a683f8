/* Twenty lines of threads: each thread makes the next one and ends, all the time. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>

#define LINES 20
static volatile int stop, lines = LINES;
static volatile long born[LINES];
static pthread_attr_t attributes;

static void *live(void *argument)
{
	long line = (long)argument, number = ++born[line];
	char mark[2000];
	memset(mark, (int)number, sizeof mark);
	if (stop) {
		__sync_fetch_and_sub(&lines, 1);
	} else {
		pthread_t next;
		while (pthread_create(&next, &attributes, live, argument) != 0)
			usleep(100);
	}
	for (size_t i = 0; i < sizeof mark; i++)
		check(mark[i] == (char)number, "a stack is damaged");
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 65536);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	for (long line = 0; line < LINES; line++) {
		pthread_t thread;
		check(pthread_create(&thread, &attributes, live, (void *)line) == 0, "a first thread");
	}
	int tampered = checkpoint();
	long before[LINES];
	for (int line = 0; line < LINES; line++)
		before[line] = born[line];
	for (int line = 0; line < LINES; line++)
		while (born[line] == before[line])
			usleep(1000);
	stop = 1;
	while (lines)
		usleep(1000);
	check(!tampered, "told to fail");
	pass();
}
