/* Ports that ioperm allows to one thread, and not to another; a child has its parent's. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <signal.h>
#include <sys/io.h>
#include <sys/wait.h>

enum { DELAY = 0x80, FAR = 0xfff0 };
static volatile int step;

/* Whether this thread may use the port: a child of its own tries. */
static int may(int port)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL);
		outb(0, port);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return status == 0;
}

static void *without(void *unused)
{
	step = 1;
	while (step < 2)
		usleep(1000);
	check(!may(DELAY), "a thread that had none may use a port");
	return unused;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t thread;
	pthread_create(&thread, NULL, without, NULL);
	while (step < 1)
		usleep(1000);
	if (ioperm(DELAY, 1, 1) != 0 || ioperm(FAR, 8, 1) != 0)
		skip("no ioperm");
	if (checkpoint())
		ioperm(FAR + 7, 1, 0);
	check(may(DELAY) && may(FAR) && may(FAR + 7), "the ports");
	check(!may(DELAY + 1) && !may(FAR - 1) && !may(FAR + 8), "other ports");
	step = 2;
	pthread_join(thread, NULL);
	pass();
}
