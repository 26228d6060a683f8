/* All 64 actions with every flag and a mask, for handlers and for ignored and default signals alike. */
#define _GNU_SOURCE
#include "target_api.h"
#include <signal.h>
#include <sys/syscall.h>

struct action {
	void *handler;
	unsigned long flags;
	void *restorer;
	unsigned long mask;
};

static void handler(int number)
{
	(void)number;
}

static void restorer(void)
{
}

static int call(int number, struct action *set, struct action *old)
{
	return syscall(SYS_rt_sigaction, number, set, old, 8);
}

int main(int argc, char **argv)
{
	start(argc, argv);
	static const unsigned long flags[] = {SA_RESTART, SA_NODEFER, SA_RESETHAND, SA_ONSTACK, SA_SIGINFO,
		SA_NOCLDSTOP, SA_NOCLDWAIT, SA_RESTART | SA_SIGINFO | SA_ONSTACK, 0};
	struct action before[65], now;
	for (int n = 1; n <= 64; n++) {
		if (n == SIGKILL || n == SIGSTOP)
			continue;
		void *kinds[] = {SIG_DFL, SIG_IGN, handler};
		struct action set = {kinds[n % 3], flags[n % 9] | 0x04000000, restorer, 1UL << (n % 60) | 1UL << 40};
		check(call(n, &set, NULL) == 0, "rt_sigaction");
	}
	for (int n = 1; n <= 64; n++)
		check(call(n, NULL, &before[n]) == 0, "rt_sigaction");
	if (checkpoint())
		signal(SIGUSR1, handler);
	for (int n = 1; n <= 64; n++) {
		check(call(n, NULL, &now) == 0, "rt_sigaction");
		check(now.handler == before[n].handler, "a handler");
		check(now.flags == before[n].flags, "flags");
		check(now.mask == before[n].mask && now.restorer == before[n].restorer, "a mask");
	}
	pass();
}
