/* Two children that share umask and directories (CLONE_FS), which their parent has left since. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

static volatile int *stage;
static char stacks[2][1 << 16] __attribute__((aligned(16)));

static int child(void *second)
{
	while (*stage < 1 + (second != NULL))
		usleep(5000);
	if (second)
		return umask(0) == 0123 ? 7 : 9;
	umask(0123);
	*stage = 2;
	return 7;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	int status;
	stage = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	umask(027);
	pid_t one = clone(child, stacks[0] + sizeof stacks[0], CLONE_FS | SIGCHLD, NULL);
	pid_t two = clone(child, stacks[1] + sizeof stacks[1], CLONE_FS | SIGCHLD, stacks);
	check(unshare(CLONE_FS) == 0, "unshare");
	umask(077);
	checkpoint();
	check(umask(077) == 077, "the parent's umask");
	*stage = 1;
	check(waitpid(one, &status, 0) == one && WEXITSTATUS(status) == 7, "the first child");
	check(waitpid(two, &status, 0) == two && WEXITSTATUS(status) == 7, "the second child's umask is another one");
	check(umask(077) == 077, "the parent's umask");
	pass();
}
