/* A child that shares its memory, descriptors, directories and signal actions with a process outside the tree. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static pid_t root;

static char stacks[2][65536] __attribute__((aligned(16)));
enum { ALL = CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_SIGHAND | SIGCHLD };

static int outsider(void *arg)
{
	while (kill(root, 0) == 0)
		usleep(20000);
	_exit(0);
}

/* It ends at once, so that its child belongs to nobody in the tree. */
static int middle(void *arg)
{
	_exit(clone(outsider, stacks[1] + sizeof stacks[1], ALL, NULL) == -1);
}

int main(int argc, char **argv)
{
	start(argc, argv);
	int status, tampered;
	volatile int *ready = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	root = getpid();
	pid_t child = fork();
	if (child == 0) {
		pid_t pid = clone(middle, stacks[0] + sizeof stacks[0], ALL, NULL);
		check(waitpid(pid, &status, 0) == pid && status == 0, "the one in between");
		*ready = 1;
		while (!gone(&tampered))
			usleep(20000);
		_exit(5);
	}
	while (!*ready)
		usleep(1000);
	checkpoint();
	check(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5, "the child");
	pass();
}
