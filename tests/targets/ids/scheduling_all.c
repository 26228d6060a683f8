/* Scheduling of threads, each its own: FIFO and RR with reset-on-fork, BATCH, IDLE, nice, affinity, I/O priority, slack. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define N 6
struct seen {
	int policy, priority, nice, ioprio;
	long slack;
	cpu_set_t cpus;
};
static volatile int ready, step;

static void look(struct seen *s)
{
	struct sched_param param;
	memset(s, 0, sizeof *s);
	s->policy = sched_getscheduler(0);
	sched_getparam(0, &param);
	s->priority = param.sched_priority;
	s->nice = getpriority(PRIO_PROCESS, 0);
	s->ioprio = syscall(SYS_ioprio_get, 1, 0);
	s->slack = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
	sched_getaffinity(0, sizeof s->cpus, &s->cpus);
}

static void *work(void *argument)
{
	long i = (long)argument;
	static const int policies[N] = {SCHED_FIFO | SCHED_RESET_ON_FORK, SCHED_RR, SCHED_BATCH, SCHED_IDLE, SCHED_OTHER,
		SCHED_OTHER | SCHED_RESET_ON_FORK};
	struct sched_param param = {.sched_priority = i < 2 ? 3 + i : 0};
	struct seen before, now;
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(i % 2, &one);
	if (i != 4)
		sched_setaffinity(0, sizeof one, &one);
	setpriority(PRIO_PROCESS, 0, (int)i * 3 - 5);
	syscall(SYS_ioprio_set, 1, 0, (i % 3 + 1) << 13 | i);
	prctl(PR_SET_TIMERSLACK, 100000 + i, 0, 0, 0);
	check(sched_setscheduler(0, policies[i], &param) == 0, "sched_setscheduler");
	look(&before);
	__sync_fetch_and_add(&ready, 1);
	while (!step)
		usleep(5000);
	look(&now);
	if (memcmp(&before, &now, sizeof now)) {
		fprintf(stderr, "%ld: policy %#x %#x priority %d %d nice %d %d ioprio %#x %#x slack %ld %ld\n", i, before.policy,
			now.policy, before.priority, now.priority, before.nice, now.nice, before.ioprio, now.ioprio,
			before.slack, now.slack);
		fail("a thread's scheduling");
	}
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t threads[N];
	for (long i = 0; i < N; i++)
		pthread_create(&threads[i], NULL, work, (void *)i);
	while (ready < N)
		usleep(1000);
	checkpoint();
	step = 1;
	for (int i = 0; i < N; i++)
		pthread_join(threads[i], NULL);
	pass();
}
