/* Groups and sessions at odd places: a child in its brother's group, a group led by a grandchild, a session in a session
 * whose leader has ended and been reaped, and its member in a group whose leader has ended too. */
#define _GNU_SOURCE
#include "target_api.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static int ends[2];

static void tell(pid_t pid)
{
	check(write(ends[1], &pid, sizeof pid) == sizeof pid, "write");
}

static pid_t told(void)
{
	pid_t pid;
	check(read(ends[0], &pid, sizeof pid) == sizeof pid, "read");
	return pid;
}

static void stay(void)
{
	int tampered;
	while (!gone(&tampered))
		usleep(20000);
	_exit(5);
}

static pid_t child(void)
{
	pid_t pid = fork();
	if (pid == 0)
		stay();
	return pid;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	int status;
	check(pipe(ends) == 0 && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "pipe");
	pid_t first = child(), second = child();
	setpgid(first, 0);
	setpgid(second, first);

	pid_t middle = fork();
	if (middle == 0) {
		pid_t grandchild = child();
		setpgid(grandchild, 0);
		setpgid(0, grandchild);
		tell(grandchild);
		stay();
	}
	pid_t grandchild = told();

	pid_t outer = fork();
	if (outer == 0) {
		setsid();
		pid_t leader = fork();
		if (leader == 0) {
			setsid();
			pid_t dead = child(), member = child();
			setpgid(dead, 0);
			setpgid(member, dead);
			kill(dead, SIGKILL);
			waitpid(dead, &status, 0);
			tell(member);
			tell(dead);
			_exit(0);
		}
		stay();
	}
	pid_t member = told(), dead = told();
	siginfo_t info;
	while (waitid(P_PID, member, &info, WEXITED | WNOHANG | WNOWAIT) == -1) /* until its parent has ended */
		usleep(1000);
	pid_t session = getsid(member);
	check(getpgid(member) == dead && session != getpid() && session != outer, "before");
	checkpoint();
	check(getpgid(first) == first && getpgid(second) == first, "the brothers' group");
	check(getpgid(middle) == grandchild && getpgid(grandchild) == grandchild, "the grandchild's group");
	check(getsid(outer) == outer, "the outer session");
	check(getsid(member) == session && getpgid(member) == dead, "the orphan's session and group");
	check(waitpid(member, &status, 0) == member && WEXITSTATUS(status) == 5, "the orphan");
	check(waitpid(first, &status, 0) == first && waitpid(second, &status, 0) == second, "the brothers");
	pass();
}
