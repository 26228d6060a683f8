/* Two processes that share their descriptors, their root and umask (clone with CLONE_FILES | CLONE_FS). */
#define _GNU_SOURCE
#include "target_api.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static int other(void *unused)
{
	int tampered;
	(void)unused;
	while (!gone(&tampered))
		usleep(20000);
	umask(0123);
	return dup2(open("/dev/null", O_RDONLY), 150) == 150 ? 9 : 1;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	char *stack = malloc(65536);
	pid_t pid = clone(other, stack + 65536, CLONE_FILES | CLONE_FS | SIGCHLD, NULL);
	int status;
	checkpoint();
	check(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 9, "the other process");
	check(fcntl(150, F_GETFD) == 0, "descriptors are not shared");
	check(umask(0) == 0123, "umask is not shared");
	pass();
}
