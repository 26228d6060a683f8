/* Parents that wait in vfork for children whose tid the kernel is to clear (CLONE_CHILD_CLEARTID): one executes a
 * program, one ends, one is killed. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

enum { EXECUTES, ENDS, IS_KILLED, KINDS };
static char stack[65536];
static volatile pid_t tid;
static volatile int shared;

static int child(void *kind)
{
	int tampered;
	while (!gone(&tampered))
		usleep(20000);
	shared = 5;
	usleep(100000);
	if (*(int *)kind == EXECUTES)
		execl("/bin/sh", "sh", "-c", "exit 6", NULL);
	if (*(int *)kind == IS_KILLED)
		kill(getpid(), SIGKILL);
	_exit(6);
}

static int parent(int kind)
{
	int status, flags = CLONE_VM | CLONE_VFORK | CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | SIGCHLD;
	pid_t pid = clone(child, stack + sizeof stack, flags, &kind, NULL, NULL, &tid);
	if (shared != 5)
		return 10; /* it came back too early */
	if (waitpid(pid, &status, 0) != pid || tid != 0)
		return 11;
	return (kind == IS_KILLED ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 6) ? 8 : 12;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pid_t parents[KINDS];
	int status;
	for (int i = 0; i < KINDS; i++)
		if ((parents[i] = fork()) == 0)
			_exit(parent(i));
	for (int i = 0; i < KINDS; i++)
		await_state(parents[i], 'D'); /* in vfork */
	checkpoint();
	for (int i = 0; i < KINDS; i++) {
		check(waitpid(parents[i], &status, 0) == parents[i], "waitpid");
		errno = status;
		check(WIFEXITED(status) && WEXITSTATUS(status) == 8, "a parent that waited in vfork");
	}
	pass();
}
