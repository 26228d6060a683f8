/* Children whose end is told by SIGUSR1, by SIGUSR2, and by nothing. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static volatile int usr1, usr2, chld;

static void count(int number)
{
	usr1 += number == SIGUSR1;
	usr2 += number == SIGUSR2;
	chld += number == SIGCHLD;
}

static pid_t child(int number)
{
	pid_t pid = syscall(SYS_clone, number, 0, 0, 0, 0);
	if (pid == 0) {
		int tampered;
		while (!gone(&tampered))
			usleep(20000);
		_exit(3);
	}
	return pid;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};
	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGUSR2, &action, NULL);
	sigaction(SIGCHLD, &action, NULL);
	pid_t pids[] = {child(SIGUSR1), child(SIGUSR2), child(0), child(SIGCHLD)};
	int status;
	checkpoint();
	for (int i = 0; i < 4; i++)
		check(waitpid(pids[i], &status, __WALL) == pids[i] && WEXITSTATUS(status) == 3, "a child");
	check(usr1 == 1 && usr2 == 1 && chld == 1, "the signals of their ends");
	pass();
}
