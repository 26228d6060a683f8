/* A thread under SCHED_DEADLINE keeps its runtime, deadline and period. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sys/syscall.h>

struct attributes {
	unsigned size, policy;
	unsigned long flags;
	int nice;
	unsigned priority;
	unsigned long runtime, deadline, period;
};

int main(int argc, char **argv)
{
	start(argc, argv);
	struct attributes set = {sizeof set, 6, 1, 0, 0, 20000000, 90000000, 100000000}, before, now;
	if (syscall(SYS_sched_setattr, 0, &set, 0) == -1)
		skip("no SCHED_DEADLINE here");
	check(syscall(SYS_sched_getattr, 0, &before, sizeof before, 0) == 0, "sched_getattr");
	checkpoint();
	check(syscall(SYS_sched_getattr, 0, &now, sizeof now, 0) == 0, "sched_getattr");
	check(memcmp(&before, &now, sizeof now) == 0, "the parameters");
	pass();
}
