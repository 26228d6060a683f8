/* SysV semaphores: values, SEM_UNDO adjustments that count when the task ends, a task that waits in semop. */
#include "target_api.h"
#include <signal.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/wait.h>

static void op(int id, int number, int by, int flags)
{
	struct sembuf one = { number, by, flags };
	check(semop(id, &one, 1) == 0, "semop");
}

int main(int argc, char **argv)
{
	start(argc, argv);
	int id = semget(IPC_PRIVATE, 4, IPC_CREAT | 0600);
	if (id < 0)
		skip("no SysV semaphores");
	unsigned short values[4] = { 5, 10, 0, 100 }, now[4];
	check(semctl(id, 0, SETALL, values) == 0, "SETALL");
	pid_t undoing = fork();
	if (undoing == 0) {
		op(id, 0, -2, SEM_UNDO);
		op(id, 1, 3, SEM_UNDO);
		op(id, 3, -1, 0);
		for (;;)
			pause();
	}
	pid_t waiting = fork();
	if (waiting == 0) {
		struct sembuf one = { 2, -1, 0 };
		_exit(semop(id, &one, 1) == 0 ? 5 : 6);
	}
	for (int n = 0; semctl(id, 0, GETALL, now) != 0 || now[3] != 99 || semctl(id, 2, GETNCNT) != 1; n++) {
		check(n < 5000, "the children do not come to their calls");
		usleep(10000);
	}
	if (checkpoint())
		semctl(id, 3, SETVAL, 7);
	check(semctl(id, 0, GETALL, now) == 0, "the set is gone");
	check(now[0] == 3 && now[1] == 13 && now[2] == 0 && now[3] == 99, "the values");
	check(semctl(id, 2, GETNCNT) == 1, "nobody waits");
	check(waitpid(waiting, NULL, WNOHANG) == 0, "the waiter has ended");
	op(id, 2, 1, 0);
	int status;
	check(waitpid(waiting, &status, 0) == waiting && WEXITSTATUS(status) == 5, "semop of the waiter");
	kill(undoing, 9);
	waitpid(undoing, NULL, 0);
	check(semctl(id, 0, GETALL, now) == 0 && now[0] == 5 && now[1] == 10 && now[3] == 99, "undone");
	semctl(id, 0, IPC_RMID);
	pass();
}
