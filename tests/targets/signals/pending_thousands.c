/* Thousands of signals wait, for the process and for its thread, each with a value of its own. */
#define _GNU_SOURCE
#include "target_api.h"
#include <signal.h>
#include <sys/syscall.h>

enum { SHARED = 9000, OWN = 3000 };

static void queue(int number, int nth, int thread)
{
	siginfo_t info = {.si_signo = number, .si_code = SI_QUEUE};
	info.si_pid = 5000 + nth;
	info.si_uid = nth % 7;
	info.si_value.sival_ptr = (void *)(0x765400000000 + nth);
	long done = thread ? syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), number, &info)
			   : syscall(SYS_rt_sigqueueinfo, getpid(), number, &info);
	check(done == 0, "queue");
}

static void fetch(int number, int count)
{
	struct timespec none = {0, 0};
	sigset_t set;
	siginfo_t info;
	sigemptyset(&set);
	sigaddset(&set, number);
	for (int nth = 0; nth < count; nth++) {
		check(sigtimedwait(&set, &info, &none) == number, "the queue is shorter");
		check(info.si_code == SI_QUEUE && info.si_pid == 5000 + nth && (int)info.si_uid == nth % 7, "siginfo");
		check(info.si_value.sival_ptr == (void *)(0x765400000000 + nth), "value");
	}
	check(sigtimedwait(&set, &info, &none) == -1, "the queue is longer");
}

int main(int argc, char **argv)
{
	sigset_t all;
	start(argc, argv);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	for (int nth = 0; nth < SHARED; nth++)
		queue(SIGRTMIN + 1 + nth % 2, nth / 2, 0);
	for (int nth = 0; nth < OWN; nth++)
		queue(SIGRTMIN + 5, nth, 1);
	checkpoint();
	fetch(SIGRTMIN + 1, SHARED / 2);
	fetch(SIGRTMIN + 2, SHARED / 2);
	fetch(SIGRTMIN + 5, OWN);
	pass();
}
