/* Inside a handler on the alternate stack, inside a handler of another signal; with SS_AUTODISARM too. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <signal.h>

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

static stack_t stack;
static volatile int depth, most;
static volatile int leave;

static void within(int number, siginfo_t *info, void *context)
{
	char here;
	(void)info;
	(void)context;
	depth++;
	most = depth > most ? depth : most;
	if (number == SIGUSR1) {
		check(&here >= (char *)stack.ss_sp && &here < (char *)stack.ss_sp + stack.ss_size, "on the stack");
		raise(SIGUSR2);
	} else {
		stack_t now;
		sigset_t mask;
		sigaltstack(NULL, &now);
		check((now.ss_flags & SS_DISABLE) != 0, "SS_AUTODISARM disables");
		checkpoint();
		sigaltstack(NULL, &now);
		check((now.ss_flags & SS_DISABLE) != 0, "disabled still");
		pthread_sigmask(SIG_SETMASK, NULL, &mask);
		check(sigismember(&mask, SIGUSR1) && sigismember(&mask, SIGUSR2) && sigismember(&mask, SIGHUP), "the mask");
		check(depth == 2, "depth");
	}
	depth--;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	stack_t now;
	struct sigaction action = {.sa_sigaction = within, .sa_flags = SA_ONSTACK | SA_SIGINFO};
	stack.ss_sp = malloc(1 << 16);
	stack.ss_size = 1 << 16;
	stack.ss_flags = SS_AUTODISARM;
	check(sigaltstack(&stack, NULL) == 0, "sigaltstack");
	sigaction(SIGUSR1, &action, NULL);
	sigaddset(&action.sa_mask, SIGHUP);
	sigaction(SIGUSR2, &action, NULL);
	raise(SIGUSR1);
	check(most == 2 && depth == 0, "left");
	sigaltstack(NULL, &now);
	check(now.ss_sp == stack.ss_sp && now.ss_size == stack.ss_size && now.ss_flags == (int)SS_AUTODISARM, "the stack again");
	pass();
}
