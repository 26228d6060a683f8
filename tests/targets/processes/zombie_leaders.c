/* Zombies that lead a group, and a session, with members that live; both are waited for afterwards. */
#include "target_api.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static pid_t member(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		int tampered;
		pid_t group = getpgrp(), session = getsid(0);
		while (!gone(&tampered))
			usleep(20000);
		_exit(getpgrp() == group && getsid(0) == session ? 5 : 6);
	}
	return pid;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pid_t leader = fork(), session, inside;
	int status, ends[2];
	if (leader == 0) {
		setpgid(0, 0);
		usleep(200000);
		_exit(31);
	}
	setpgid(leader, leader);
	pid_t joined = fork();
	if (joined == 0) {
		int tampered;
		setpgid(0, leader);
		while (!gone(&tampered))
			usleep(20000);
		_exit(getpgrp() == leader ? 5 : 6);
	}
	setpgid(joined, leader);
	check(pipe(ends) == 0, "pipe");
	check(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "subreaper");
	if ((session = fork()) == 0) {
		setsid();
		pid_t pid = member();
		check(write(ends[1], &pid, sizeof pid) == sizeof pid, "write");
		kill(getpid(), SIGTERM);
	}
	check(read(ends[0], &inside, sizeof inside) == sizeof inside, "read");
	siginfo_t info;
	check(waitid(P_PID, leader, &info, WEXITED | WNOWAIT) == 0 && waitid(P_PID, session, &info, WEXITED | WNOWAIT) == 0, "dead");
	checkpoint();
	check(getpgid(joined) == leader && getsid(inside) == session && getpgid(inside) == session, "groups");
	check(waitpid(inside, &status, 0) == inside && WEXITSTATUS(status) == 5, "the session's member");
	check(waitpid(-leader, &status, 0) > 0 && waitpid(-leader, &status, 0) > 0, "the group's two");
	check(waitpid(session, &status, 0) == session && WTERMSIG(status) == SIGTERM, "the session's leader");
	pass();
}
