/* A child that shares the memory (CLONE_VM) but is a process of its own. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static volatile int word, answer;
static char stack[65536] __attribute__((aligned(16)));

static int other(void *unused)
{
	(void)unused;
	while (word != 1)
		usleep(1000);
	answer = 42;
	return 7;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	char *area = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(area, 5, 1 << 20);
	pid_t pid = clone(other, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL);
	check(pid > 0, "clone");
	int tampered = checkpoint(), status;
	word = tampered ? 2 : 1;
	if (tampered)
		fail("tampered");
	check(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7, "its exit status");
	check(answer == 42, "the memory is one");
	for (int i = 0; i < 1 << 20; i += 4096)
		check(area[i] == 5, "the bytes");
	pass();
}
