/* Every thread is inside a handler on its own alternate stack, and inside a second one on top of it. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
enum { N = 6 };
static char stacks[N][65536];
static __thread long me;
static __thread int depth, back;
static volatile int inside, stop;
static void inner(int n, siginfo_t *i, void *c)
{
	char here;
	long mine = me;
	check(&here > stacks[mine] && &here < stacks[mine] + 65536, "the inner handler's stack");
	depth = 2;
	__atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST);
	while (!stop) for (volatile int k = 0; k < 100000; k++) ;
	check(mine == me && depth == 2, "thread locals");
	depth = 1;
}
static void outer(int n, siginfo_t *i, void *c)
{
	char here;
	long local = me * 77;
	sigset_t set;
	check(&here > stacks[me] && &here < stacks[me] + 65536, "the outer handler's stack");
	depth = 1;
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR2);
	check(local == me * 77 && depth == 1, "the outer handler");
	pthread_sigmask(0, NULL, &set);
	check(sigismember(&set, SIGUSR1) == 1 && sigismember(&set, SIGUSR2) == 0 && sigismember(&set, SIGRTMIN + 3) == 1, "its mask");
	back = 1;
}
static void *run(void *a)
{
	me = (long)a;
	stack_t s = {.ss_sp = stacks[me], .ss_size = 65536};
	sigset_t set;
	sigaltstack(&s, NULL);
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
	check(back && depth == 1, "came back");
	pthread_sigmask(0, NULL, &set);
	check(!sigismember(&set, SIGUSR1) && !sigismember(&set, SIGRTMIN + 3), "the thread's mask");
	sigaltstack(NULL, &s);
	check(s.ss_sp == stacks[me] && s.ss_flags == 0, "the alternate stack");
	return NULL;
}
int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t t[N];
	struct sigaction o = {.sa_sigaction = outer, .sa_flags = SA_SIGINFO | SA_ONSTACK}, i = {.sa_sigaction = inner, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
	sigaddset(&o.sa_mask, SIGRTMIN + 3);
	sigaction(SIGUSR1, &o, NULL);
	sigaction(SIGUSR2, &i, NULL);
	for (long k = 0; k < N; k++) pthread_create(&t[k], NULL, run, (void *)k);
	while (inside < N) usleep(10000);
	checkpoint();
	stop = 1;
	for (int k = 0; k < N; k++) pthread_join(t[k], NULL);
	pass();
}
