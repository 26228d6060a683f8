/* An IPC namespace of a child's own, in which it makes objects only afterwards. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sched.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	start(argc, argv);
	int ends[2], status;
	char byte;
	key_t key = 0x636b7074 ^ getpid();
	check(pipe(ends) == 0, "pipe");
	int outer = semget(key, 1, IPC_CREAT | 0600);
	if (outer < 0 || access("/proc/self/ns/ipc", F_OK))
		skip("no SysV semaphores, or no IPC namespaces");
	pid_t pid = fork();
	if (pid == 0) {
		int tampered;
		if (unshare(CLONE_NEWIPC))
			_exit(2);
		check(write(ends[1], "x", 1) == 1, "write");
		while (!gone(&tampered))
			usleep(20000);
		if (semget(key, 1, 0600) != -1)
			_exit(3);
		int inner = semget(key, 1, IPC_CREAT | 0600);
		_exit(inner >= 0 && semctl(inner, 0, SETVAL, 7) == 0 ? 5 : 4);
	}
	check(read(ends[0], &byte, 1) == 1, "read");
	semctl(outer, 0, SETVAL, 3);
	checkpoint();
	check(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5, "the child");
	check(semctl(outer, 0, GETVAL) == 3, "the root's semaphore");
	semctl(outer, 0, IPC_RMID);
	pass();
}
