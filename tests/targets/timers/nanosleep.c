/* Threads in relative and absolute sleeps wake no earlier than they should, through any number of freezes. */
#define _GNU_SOURCE
#include "target_api.h"
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>

static struct timespec began;

static double passed(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec - began.tv_sec + (now.tv_nsec - began.tv_nsec) / 1e9;
}

static void *relative(void *unused)
{
	struct timespec t = {2, 0};
	int code = clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
	check(code == 0 && passed() >= 2, "relative sleep");
	return unused;
}

static void *absolute(void *unused)
{
	struct timespec t = {began.tv_sec + 3, began.tv_nsec};
	int code = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
	check(code == 0 && passed() >= 3, "absolute sleep");
	return unused;
}

static void *polling(void *unused)
{
	check(poll(NULL, 0, 2000) == 0 && passed() >= 2, "poll");
	return unused;
}

static void *selecting(void *unused)
{
	struct timeval t = {2, 0};
	check(select(0, NULL, NULL, NULL, &t) == 0 && passed() >= 1.99, "select");
	return unused;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t threads[4];
	void *(*work[])(void *) = {relative, absolute, polling, selecting};
	clock_gettime(CLOCK_MONOTONIC, &began);
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, work[i], NULL);
	if (checkpoint())
		began.tv_sec += 1000;
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	pass();
}
