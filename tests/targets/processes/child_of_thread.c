/* A child forked by a thread: waited for with __WNOTHREAD there, signalled when that thread ends. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static pid_t plain, faithful;
static volatile int ready;
static int ends[2];

static pid_t born(int with_signal)
{
	pid_t pid = fork();
	if (pid == 0) {
		int tampered;
		if (with_signal) {
			prctl(PR_SET_PDEATHSIG, SIGUSR1);
			check(write(ends[1], "x", 1) == 1, "write");
			for (;;)
				pause();
		}
		while (!gone(&tampered))
			usleep(20000);
		_exit(21);
	}
	return pid;
}

static void *work(void *unused)
{
	int tampered, status;
	char byte;
	plain = born(0);
	faithful = born(1);
	check(read(ends[0], &byte, 1) == 1, "read");
	ready = 1;
	while (!gone(&tampered))
		usleep(20000);
	check(waitpid(plain, &status, __WNOTHREAD) == plain && WEXITSTATUS(status) == 21, "the thread's child");
	return unused;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t thread;
	int status;
	check(pipe(ends) == 0, "pipe");
	pthread_create(&thread, NULL, work, NULL);
	while (!ready)
		usleep(1000);
	check(waitpid(faithful, &status, WNOHANG | __WNOTHREAD) == -1 && errno == ECHILD, "not ours before");
	checkpoint();
	pthread_join(thread, NULL);
	check(waitpid(faithful, &status, 0) == faithful && WTERMSIG(status) == SIGUSR1, "the signal of a thread's end");
	pass();
}
