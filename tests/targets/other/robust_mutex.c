/* A robust mutex in shared memory: its owner, a child, is killed afterwards, and the next one is told. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_mutex_t *lock = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutexattr_t kind;
	pthread_mutexattr_init(&kind);
	pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(lock, &kind);
	int ready[2];
	check(pipe(ready) == 0, "pipe");
	pid_t pid = fork();
	if (pid == 0) {
		pthread_mutex_lock(lock);
		if (write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	char byte;
	check(read(ready[0], &byte, 1) == 1, "child");
	if (checkpoint())
		pthread_mutex_init(lock, &kind);
	check(pthread_mutex_trylock(lock) == EBUSY, "the lock is not held");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	check(pthread_mutex_lock(lock) == EOWNERDEAD, "the owner's death is not told");
	pthread_mutex_consistent(lock);
	pthread_mutex_unlock(lock);
	pass();
}
