/* Every thread's restartable sequence area stays registered and is kept up to date by the kernel. */
#define _GNU_SOURCE
#include "target_api.h"
#include <linux/rseq.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/syscall.h>

extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

static void see(void)
{
	if (!&__rseq_offset || __rseq_size == 0)
		skip("the C library has not registered rseq");
	volatile struct rseq *area = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
	cpu_set_t all, one;
	sched_getaffinity(0, sizeof all, &all);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof one, &one);
		check((int)area->cpu_id == cpu, "cpu_id is not kept up to date");
	}
	sched_setaffinity(0, sizeof all, &all);
}

static void *thread(void *unused)
{
	int tampered;
	see();
	while (!gone(&tampered))
		usleep(20000);
	see();
	return unused;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t other;
	see();
	pthread_create(&other, NULL, thread, NULL);
	checkpoint();
	see();
	pthread_join(other, NULL);
	pass();
}
