/* What flags of a handler do: SA_RESETHAND once, SA_NODEFER nested, SA_ONSTACK elsewhere, SA_RESTART, sa_mask. */
#define _GNU_SOURCE
#include "target_api.h"
#include <signal.h>
#include <sys/wait.h>

static volatile int once, deep, deepest, masked;
static char *low, *high;
static volatile int elsewhere;

static void reset(int n) { (void)n; once++; }
static void nested(int n)
{
	deep++;
	deepest = deep > deepest ? deep : deepest;
	if (deep < 3)
		raise(n);
	deep--;
}
static void stacked(int n) { char here; (void)n; elsewhere = &here > low && &here < high; }
static void holding(int n)
{
	sigset_t now;
	(void)n;
	sigprocmask(SIG_SETMASK, NULL, &now);
	masked = sigismember(&now, SIGINT) && sigismember(&now, SIGRTMAX) && !sigismember(&now, SIGQUIT);
}

int main(int argc, char **argv)
{
	start(argc, argv);
	struct sigaction action = {.sa_handler = reset, .sa_flags = SA_RESETHAND}, now;
	stack_t stack = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
	low = stack.ss_sp;
	high = low + (1 << 16);
	sigaltstack(&stack, NULL);
	sigaction(SIGWINCH, &action, NULL);
	action.sa_handler = nested, action.sa_flags = SA_NODEFER;
	sigaction(SIGUSR1, &action, NULL);
	action.sa_handler = stacked, action.sa_flags = SA_ONSTACK;
	sigaction(SIGUSR2, &action, NULL);
	action.sa_handler = holding, action.sa_flags = 0;
	sigaddset(&action.sa_mask, SIGINT);
	sigaddset(&action.sa_mask, SIGRTMAX);
	sigaction(SIGHUP, &action, NULL);
	checkpoint();
	raise(SIGWINCH);
	raise(SIGWINCH);
	sigaction(SIGWINCH, NULL, &now);
	check(once == 1 && now.sa_handler == SIG_DFL, "SA_RESETHAND");
	raise(SIGUSR1);
	check(deepest == 3, "SA_NODEFER");
	raise(SIGUSR2);
	check(elsewhere, "SA_ONSTACK");
	raise(SIGHUP);
	check(masked, "sa_mask");
	pass();
}
