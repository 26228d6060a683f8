/* NUMA memory policies: of the first thread, of another. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <sys/syscall.h>

enum { DEFAULT, PREFERRED, BIND, INTERLEAVE, LOCAL };
static volatile int step;

static void look(int *mode, unsigned long *nodes)
{
	*mode = -1;
	nodes[0] = 0;
	check(syscall(SYS_get_mempolicy, mode, nodes, 1024, 0, 0) == 0, "get_mempolicy");
}

static void *other(void *unused)
{
	unsigned long node = 1, nodes[16];
	int mode;
	check(syscall(SYS_set_mempolicy, INTERLEAVE, &node, 64) == 0, "set_mempolicy");
	step = 1;
	while (step < 2)
		usleep(1000);
	look(&mode, nodes);
	check(mode == INTERLEAVE && nodes[0] == 1, "the thread's policy");
	return unused;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	unsigned long node = 1, nodes[16];
	int mode;
	pthread_t thread;
	if (syscall(SYS_set_mempolicy, BIND, &node, 64) == -1)
		skip("no NUMA");
	pthread_create(&thread, NULL, other, NULL);
	while (step < 1)
		usleep(1000);
	checkpoint();
	look(&mode, nodes);
	check(mode == BIND && nodes[0] == 1, "the task's policy");
	step = 2;
	pthread_join(thread, NULL);
	pass();
}
