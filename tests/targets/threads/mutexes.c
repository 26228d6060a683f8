/* Mutexes held and waited for: plain, recursive, error-checking, priority-inheriting, robust, shared between processes. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define N 6
static pthread_mutex_t *mutexes;
static volatile int *order, held;

static void *wait_for(void *argument)
{
	pthread_mutex_t *mutex = argument;
	check(pthread_mutex_lock(mutex) == 0, "lock");
	check(held == 0, "it was held");
	pthread_mutex_unlock(mutex);
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	mutexes = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	order = (int *)(mutexes + 20);
	pthread_t threads[N];
	int status;
	for (int i = 0; i < N + 1; i++) {
		pthread_mutexattr_t kind;
		pthread_mutexattr_init(&kind);
		if (i == 1)
			pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE);
		if (i == 2)
			pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_ERRORCHECK);
		if (i == 3 || i == 5)
			pthread_mutexattr_setprotocol(&kind, PTHREAD_PRIO_INHERIT);
		if (i == 4 || i == 5 || i == N)
			pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
		if (i == N)
			pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
		pthread_mutex_init(&mutexes[i], &kind);
		if (i < N)
			pthread_mutex_lock(&mutexes[i]);
	}
	pthread_mutex_lock(&mutexes[1]);
	held = 1;
	pid_t pid = fork();
	if (pid == 0) {
		int tampered;
		pthread_mutex_lock(&mutexes[N]);
		order[0] = 1;
		while (!gone(&tampered))
			usleep(20000);
		_exit(3); /* without an unlock */
	}
	for (int i = 0; i < N; i++)
		pthread_create(&threads[i], NULL, wait_for, &mutexes[i]);
	while (!order[0])
		usleep(1000);
	await_threads_asleep();
	checkpoint();
	for (int i = 0; i < N; i++)
		check(pthread_mutex_trylock(&mutexes[i]) == (i == 1 ? 0 : EBUSY), "held still");
	pthread_mutex_unlock(&mutexes[1]);
	check(pthread_mutex_lock(&mutexes[2]) == EDEADLK, "the error-checking one");
	check(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 3, "the child");
	check(pthread_mutex_lock(&mutexes[N]) == EOWNERDEAD, "its owner died");
	pthread_mutex_consistent(&mutexes[N]);
	held = 0;
	pthread_mutex_unlock(&mutexes[1]);
	for (int i = 0; i < N; i++)
		check(pthread_mutex_unlock(&mutexes[i]) == 0, "unlock");
	for (int i = 0; i < N; i++)
		pthread_join(threads[i], NULL);
	pass();
}
