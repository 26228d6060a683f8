/* A handler for SIGSEGV on an alternate stack is checkpointed while it runs; it repairs the fault and returns. */
#define _GNU_SOURCE
#include "target_api.h"
#include <signal.h>
#include <sys/mman.h>

static char *volatile page;
static volatile int tampered;

static void repair(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	if (info->si_addr != page + 5)
		fail("wrong fault address");
	tampered = checkpoint();
	mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

int main(int argc, char **argv)
{
	start(argc, argv);
	page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
	sigaltstack(&stack, NULL);
	struct sigaction action = {.sa_sigaction = repair, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	sigaction(SIGSEGV, &action, NULL);
	page[5] = 42;
	if (tampered)
		page[5] = 0;
	check(page[5] == 42, "the write was lost");
	stack_t now;
	sigaltstack(NULL, &now);
	check(now.ss_sp == stack.ss_sp && now.ss_flags == 0, "alternate stack");
	pass();
}
