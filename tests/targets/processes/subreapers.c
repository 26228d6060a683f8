/* A subreaper, a child that only descends from one, and orphans that come to the nearest of them after the dump. */
#define _GNU_SOURCE
#include "target_api.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static int report(int fd, pid_t parent)
{
	int tampered;
	pid_t above;
	while (!gone(&tampered))
		usleep(20000);
	while ((above = getppid()) == parent)
		usleep(1000);
	check(write(fd, &above, sizeof above) == sizeof above, "write");
	return 4;
}

static void parent_of(int fd)
{
	int tampered;
	pid_t parent = getpid(), pid = fork();
	if (pid == 0)
		_exit(report(fd, parent));
	while (!gone(&tampered))
		usleep(20000);
	_exit(1);
}

int main(int argc, char **argv)
{
	start(argc, argv);
	int ours[2], theirs[2], status, reaper = 0;
	pid_t above;
	check(pipe(ours) == 0 && pipe(theirs) == 0, "pipe");
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	pid_t first = fork();
	if (first == 0) {
		prctl(PR_GET_CHILD_SUBREAPER, &reaper);
		check(reaper == 0, "inherited");
		parent_of(ours[1]);
	}
	pid_t own = fork();
	if (own == 0) {
		int tampered;
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		pid_t middle = fork();
		if (middle == 0)
			parent_of(theirs[1]);
		while (!gone(&tampered))
			usleep(20000);
		int n = 0;
		while (wait(&status) > 0)
			n++;
		_exit(n);
	}
	usleep(100000);
	checkpoint();
	prctl(PR_GET_CHILD_SUBREAPER, &reaper);
	check(reaper == 1, "the subreaper");
	check(read(ours[0], &above, sizeof above) == sizeof above && above == getpid(), "our orphan");
	check(read(theirs[0], &above, sizeof above) == sizeof above && above == own, "the other's orphan");
	check(waitpid(own, &status, 0) == own && WEXITSTATUS(status) == 2, "the other reaper");
	pass();
}
