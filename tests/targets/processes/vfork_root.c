/* The root task itself waits in vfork; its child, which shares its memory, runs on and asks to be checkpointed. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sys/wait.h>

int main(int argc, char **argv)
{
	start(argc, argv);
	volatile int shared = 0;
	int status;
	pid_t own = getpid(), child = vfork();
	if (child == 0) {
		checkpoint();
		shared = 5;
		_exit(getppid() == own ? 3 : 4);
	}
	check(shared == 5 && getpid() == own, "the parent");
	check(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 3, "the child");
	pass();
}
