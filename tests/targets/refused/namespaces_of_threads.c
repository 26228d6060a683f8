/* Threads that have left namespaces by themselves: the one for their children's pids, that for their time, the cgroup one. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <sched.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
static const int kinds[] = {CLONE_NEWPID, CLONE_NEWCGROUP, CLONE_NEWTIME};
static const char *names[] = {"pid_for_children", "cgroup", "time_for_children"};
static char before[3][64];
static volatile int ready, done;

static void look(int kind, char *into)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/thread-self/ns/%s", names[kind]);
	memset(into, 0, 64);
	if (readlink(path, into, 63) < 0)
		strcpy(into, "not there yet"); /* no process is in it */
}

static void *thread(void *which)
{
	long kind = (long)which;
	char after[64];
	if (unshare(kinds[kind]))
		skip("may not unshare");
	look(kind, before[kind]);
	__sync_fetch_and_add(&ready, 1);
	while (!done)
		usleep(1000);
	look(kind, after);
	check(strcmp(before[kind], after) == 0, names[kind]);
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t threads[3];
	for (long kind = 0; kind < 3; kind++)
		pthread_create(&threads[kind], NULL, thread, (void *)kind);
	while (ready < 3)
		usleep(1000);
	checkpoint();
	done = 1;
	for (int kind = 0; kind < 3; kind++)
		pthread_join(threads[kind], NULL);
	pass();
}
