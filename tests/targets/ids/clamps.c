/* Utilization clamps (sched_setattr): of a thread that has none, of one with both, of one whose policy is real-time. */
#define _GNU_SOURCE
#include "target_api.h"
#include <linux/sched.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/syscall.h>

struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t lowest, highest;
};
static volatile int ready, step;

static void *work(void *argument)
{
	long i = (long)argument;
	struct attr attr = { .size = sizeof attr }, now;
	if (i == 2) {
		attr.policy = 1; /* SCHED_FIFO */
		attr.priority = 2;
		check(syscall(SYS_sched_setattr, 0, &attr, 0) == 0, "SCHED_FIFO");
	}
	attr.flags = SCHED_FLAG_KEEP_ALL | SCHED_FLAG_UTIL_CLAMP;
	attr.lowest = 100 + i;
	attr.highest = 900 - i;
	if (i && syscall(SYS_sched_setattr, 0, &attr, 0) != 0)
		skip("no utilization clamps");
	check(syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) == 0, "sched_getattr");
	__sync_fetch_and_add(&ready, 1);
	while (!step)
		usleep(5000);
	check(syscall(SYS_sched_getattr, 0, &now, sizeof now, 0) == 0, "sched_getattr");
	check(now.lowest == attr.lowest && now.highest == attr.highest && now.policy == attr.policy, "a thread's clamps");
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t threads[3];
	for (long i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, work, (void *)i);
	while (ready < 3)
		usleep(1000);
	checkpoint();
	step = 1;
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	pass();
}
