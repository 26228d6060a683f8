/* A process whose threads have all ended by exit_group, and one killed by a signal with threads: zombies both. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static void *idle(void *unused)
{
	pause();
	return unused;
}

static void *ending(void *unused)
{
	(void)unused;
	usleep(20000);
	exit(42);
}

static pid_t child(void *(*last)(void *))
{
	pid_t pid = fork();
	if (pid == 0) {
		pthread_t thread;
		for (int i = 0; i < 3; i++)
			pthread_create(&thread, NULL, idle, NULL);
		pthread_create(&thread, NULL, last, NULL);
		pause();
	}
	return pid;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	struct rlimit none = {0, 0};
	setrlimit(RLIMIT_CORE, &none);
	pid_t ended = child(ending), killed = child(idle), aborted = child(idle);
	siginfo_t info;
	int status;
	usleep(100000);
	kill(killed, SIGKILL);
	kill(aborted, SIGABRT);
	check(waitid(P_PID, ended, &info, WEXITED | WNOWAIT) == 0, "ended");
	check(waitid(P_PID, killed, &info, WEXITED | WNOWAIT) == 0, "killed");
	check(waitid(P_PID, aborted, &info, WEXITED | WNOWAIT) == 0, "aborted");
	checkpoint();
	check(waitid(P_PID, killed, &info, WEXITED | WNOWAIT) == 0 && info.si_code == CLD_KILLED, "the code");
	check(waitpid(ended, &status, 0) == ended && WEXITSTATUS(status) == 42, "the exit code");
	check(waitpid(killed, &status, 0) == killed && WTERMSIG(status) == SIGKILL, "the signal");
	check(waitpid(aborted, &status, 0) == aborted && WTERMSIG(status) == SIGABRT, "SIGABRT");
	pass();
}
