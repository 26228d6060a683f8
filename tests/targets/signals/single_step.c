/* The trap flag is set: a SIGTRAP after each instruction of a computation, and of the calls in between. */
#define _GNU_SOURCE
#include "target_api.h"
#include <signal.h>
#include <stdint.h>
#include <time.h>
#include <ucontext.h>

#define TF 0x100
static volatile long steps;
static volatile sig_atomic_t enough;

static void step(int number, siginfo_t *info, void *context)
{
	steps++;
	if (enough)
		((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~TF;
}

static uint64_t next(uint64_t x)
{
	x ^= x << 13;
	x ^= x >> 7;
	return x ^ x << 17;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	struct sigaction action = {.sa_sigaction = step, .sa_flags = SA_SIGINFO | SA_RESTART};
	sigaction(SIGTRAP, &action, NULL);
	char path[512];
	snprintf(path, sizeof path, "%s/go", directory);
	publish("ready", "");
	uint64_t x = 1, y = 1;
	long n = 0;
	asm volatile("pushfq; orq $0x100,(%rsp); popfq");
	for (; n % 50 || access(path, F_OK) == -1; n++) {
		x = next(x);
		if (n % 50 == 0)
			usleep(1000);
	}
	enough = 1;
	for (long i = 0; i < n; i++)
		y = next(y);
	int tampered = 0;
	gone(&tampered);
	check(x == y + (tampered ? 1 : 0), "the computation");
	check(steps > n, "there were no steps");
	long before = steps;
	next(x);
	check(steps == before, "the steps went on");
	pass();
}
