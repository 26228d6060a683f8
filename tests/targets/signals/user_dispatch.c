/* System calls that are sent back as SIGSYS (PR_SET_SYSCALL_USER_DISPATCH), in one of two threads; switched by a byte. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static volatile char selector;
static volatile int caught, number;
static pthread_barrier_t barrier;

static void handler(int signo, siginfo_t *info, void *context)
{
	(void)signo;
	(void)context;
	selector = 0;
	caught++;
	number = info->si_syscall;
}

static void dispatched(int expected)
{
	caught = 0;
	selector = 1;
	syscall(SYS_getppid);
	selector = 0;
	check(caught == expected && (!expected || number == SYS_getppid), "what is sent back");
}

static void *other(void *unused)
{
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	dispatched(0);
	return unused;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t thread;
	struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
	sigaction(SIGSYS, &action, NULL);
	pthread_barrier_init(&barrier, NULL, 2);
	pthread_create(&thread, NULL, other, NULL);
	if (prctl(59, 1, 0, 0, &selector))
		skip("no system call user dispatch");
	dispatched(1);
	pthread_barrier_wait(&barrier);
	checkpoint();
	dispatched(1);
	pthread_barrier_wait(&barrier);
	pthread_join(thread, NULL);
	pass();
}
