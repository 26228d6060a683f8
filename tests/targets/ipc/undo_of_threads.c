/* SEM_UNDO of threads that have left their process's list (unshare(CLONE_SYSVSEM)): undone when they end, the rest not. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/sem.h>

static int set;
static volatile int told[3], ending[3];

static void change(int number, int by)
{
	struct sembuf operation = {number, by, SEM_UNDO};
	check(semop(set, &operation, 1) == 0, "semop");
}

static void *thread(void *argument)
{
	long which = (long)argument;
	if (which < 2)
		check(unshare(CLONE_SYSVSEM) == 0, "unshare");
	if (which == 0)
		change(0, -1);
	if (which == 2)
		change(1, -1); /* the process's */
	told[which] = 1;
	while (!ending[which])
		usleep(5000);
	if (which == 1)
		change(0, -2); /* had none at the checkpoint */
	return NULL;
}

static void holds(int number, int value)
{
	char text[64];
	int found = -1;
	for (int i = 0; i < 6000 && found != value; i++, usleep(5000))
		found = semctl(set, number, GETVAL); /* a joined thread may not have come to its exit_sem yet */
	snprintf(text, sizeof text, "semaphore %d is %d, not %d", number, found, value);
	check(found == value, text);
}

int main(int argc, char **argv)
{
	start(argc, argv);
	set = semget(IPC_PRIVATE, 2, 0600);
	if (set < 0)
		skip("no SysV semaphores");
	semctl(set, 0, SETVAL, 5);
	semctl(set, 1, SETVAL, 5);
	change(1, -1);
	pthread_t threads[3];
	for (long i = 0; i < 3; i++) {
		pthread_create(&threads[i], NULL, thread, (void *)i);
		while (!told[i])
			usleep(1000);
	}
	checkpoint();
	check(semctl(set, 0, GETVAL) == 4, "what a thread took is back already");
	check(semctl(set, 1, GETVAL) == 3, "what the process took is back already");
	for (int i = 2; i >= 0; i--) {
		ending[i] = 1;
		pthread_join(threads[i], NULL);
		holds(0, i == 0 ? 5 : 4);
		holds(1, 3);
	}
	semctl(set, 0, IPC_RMID);
	pass();
}
