/* In a handler on an alternate stack that is disarmed while it runs (SS_AUTODISARM): armed again when it returns. */
#define _GNU_SOURCE
#include "target_api.h"
#include <signal.h>
#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif
static char area[65536];
static int inside;
static void handler(int n, siginfo_t *i, void *c)
{
	stack_t s;
	char here;
	check(&here > area && &here < area + sizeof area, "on the alternate stack");
	sigaltstack(NULL, &s);
	check(s.ss_flags == SS_DISABLE, "disarmed");
	checkpoint();
	sigaltstack(NULL, &s);
	check(s.ss_flags == SS_DISABLE, "disarmed after");
	check(&here > area && &here < area + sizeof area, "on the alternate stack");
	inside = 1;
}
int main(int argc, char **argv)
{
	start(argc, argv);
	stack_t s = {.ss_sp = area, .ss_size = sizeof area, .ss_flags = SS_AUTODISARM}, now;
	struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_ONSTACK | SA_SIGINFO};
	check(sigaltstack(&s, NULL) == 0, "sigaltstack");
	sigaction(SIGUSR1, &a, NULL);
	raise(SIGUSR1);
	check(inside, "handled");
	sigaltstack(NULL, &now);
	check(now.ss_sp == area && now.ss_size == sizeof area && (unsigned)now.ss_flags == SS_AUTODISARM, "armed again");
	pass();
}
