/* A thread that never makes a system call, and one that makes nothing else. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <sys/syscall.h>

static volatile long spins, calls;

static void *spin(void *unused)
{
	unsigned long a = 1, b = 2, c = 3, d = 4;
	for (;;) {
		a += 1, b += 2, c += 3, d += 4;
		if (b != 2 * a || c != 3 * a || d != 4 * a)
			fail("a register changed");
		spins = a;
	}
	return unused;
}

static void *ask(void *unused)
{
	pid_t pid = getpid();
	for (;;) {
		if (syscall(SYS_getpid) != pid)
			fail("a call's result changed");
		calls++;
	}
	return unused;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t threads[2];
	pthread_create(&threads[0], NULL, spin, NULL);
	pthread_create(&threads[1], NULL, ask, NULL);
	checkpoint();
	for (long before = spins; spins == before;)
		usleep(1000);
	for (long before = calls; calls == before;)
		usleep(1000);
	pass();
}
