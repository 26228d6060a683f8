/* The private futex hash: of a size chosen by the program, the kernel's global one instead, and the size it comes with. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define PR_FUTEX_HASH 78
#define PR_FUTEX_HASH_SET_SLOTS 1
#define PR_FUTEX_HASH_GET_SLOTS 2

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void *thread(void *unused)
{
	pthread_mutex_lock(&mutex);
	pthread_mutex_unlock(&mutex);
	return NULL;
}

static int slots(void)
{
	return prctl(PR_FUTEX_HASH, PR_FUTEX_HASH_GET_SLOTS, 0, 0, 0);
}

/* A child with `wanted` slots, or those it gets by itself (-1), and as many threads; it ends with 0 if they stay. */
static pid_t child(int wanted, int threads)
{
	pid_t pid = fork();
	if (pid)
		return pid;
	pthread_t made[32];
	pthread_mutex_lock(&mutex);
	for (int i = 0; i < threads; i++)
		pthread_create(&made[i], NULL, thread, NULL);
	if (wanted >= 0 && prctl(PR_FUTEX_HASH, PR_FUTEX_HASH_SET_SLOTS, wanted, 0, 0))
		_exit(2);
	int before = slots(), tampered;
	if (wanted >= 0 && before != wanted)
		_exit(3);
	while (!gone(&tampered))
		usleep(20000);
	if (slots() != before)
		_exit(4);
	pthread_mutex_unlock(&mutex);
	for (int i = 0; i < threads; i++)
		pthread_join(made[i], NULL);
	_exit(0);
}

int main(int argc, char **argv)
{
	start(argc, argv);
	if (slots() < 0)
		skip("no private futex hash");
	pid_t children[] = {child(128, 2), child(0, 3), child(-1, 30), child(8, 5)};
	usleep(200000);
	checkpoint();
	for (int i = 0; i < 4; i++) {
		int status;
		char text[64];
		check(waitpid(children[i], &status, 0) == children[i], "waitpid");
		snprintf(text, sizeof text, "child %d ended with %x", i, status);
		check(status == 0, text);
	}
	pass();
}
