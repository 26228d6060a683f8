/* Five hundred threads, each with its own counter in TLS, blocked in five ways; all are joined. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <semaphore.h>

#define N 500
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static sem_t semaphore;
static int ends[2], open_now, ready;
static __thread long own;

static void *work(void *argument)
{
	long i = (long)argument;
	char byte;
	own = i * 3;
	__sync_fetch_and_add(&ready, 1);
	switch (i % 5) {
	case 0:
		pthread_mutex_lock(&mutex);
		while (!open_now)
			pthread_cond_wait(&condition, &mutex);
		pthread_mutex_unlock(&mutex);
		break;
	case 1: sem_wait(&semaphore); break;
	case 2: check(read(ends[0], &byte, 1) == 1, "read"); break;
	case 3: pthread_barrier_wait(&barrier); break;
	case 4:
		while (!open_now)
			usleep(50000);
	}
	return (void *)(own == i * 3 ? i : -1L);
}

int main(int argc, char **argv)
{
	start(argc, argv);
	static pthread_t threads[N];
	pthread_attr_t small;
	void *result;
	check(pipe(ends) == 0, "pipe");
	sem_init(&semaphore, 0, 0);
	pthread_barrier_init(&barrier, NULL, N / 5 + 1);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	for (long i = 0; i < N; i++)
		check(pthread_create(&threads[i], &small, work, (void *)i) == 0, "pthread_create");
	while (ready < N)
		usleep(1000);
	checkpoint();
	pthread_mutex_lock(&mutex);
	open_now = 1;
	pthread_cond_broadcast(&condition);
	pthread_mutex_unlock(&mutex);
	for (int i = 0; i < N / 5; i++) {
		sem_post(&semaphore);
		check(write(ends[1], "x", 1) == 1, "write");
	}
	pthread_barrier_wait(&barrier);
	for (long i = 0; i < N; i++)
		check(pthread_join(threads[i], &result) == 0 && result == (void *)i, "join");
	pass();
}
