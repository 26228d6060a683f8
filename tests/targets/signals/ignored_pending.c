/* Signals that are ignored and blocked, and wait all the same: for the process and for each thread. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <signal.h>

static pthread_barrier_t barrier;

static void waits(int number)
{
	sigset_t set;
	sigpending(&set);
	check(sigismember(&set, number), "a signal waits no more");
	sigemptyset(&set);
	sigaddset(&set, number);
	struct timespec none = {0, 0};
	check(sigtimedwait(&set, NULL, &none) == number, "it cannot be taken");
}

static void *other(void *unused)
{
	pthread_kill(pthread_self(), SIGPIPE);
	pthread_kill(pthread_self(), SIGURG);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	waits(SIGPIPE);
	waits(SIGURG);
	return unused;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t thread;
	sigset_t all;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGRTMIN + 2, SIG_IGN);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	pthread_barrier_init(&barrier, NULL, 2);
	pthread_create(&thread, NULL, other, NULL);
	pthread_kill(pthread_self(), SIGHUP);
	pthread_kill(pthread_self(), SIGRTMIN + 2);
	kill(getpid(), SIGPIPE);
	kill(getpid(), SIGWINCH);
	pthread_barrier_wait(&barrier);
	checkpoint();
	pthread_barrier_wait(&barrier);
	pthread_join(thread, NULL);
	waits(SIGHUP);
	waits(SIGRTMIN + 2);
	waits(SIGPIPE);
	waits(SIGWINCH);
	pass();
}
