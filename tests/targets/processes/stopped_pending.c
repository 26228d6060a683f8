/* A stopped child with signals waiting for it: they come when it is continued, a SIGCONT handler among them. */
#include "target_api.h"
#include <signal.h>
#include <sys/wait.h>

static volatile int seen, continued;

static void count(int number)
{
	if (number == SIGCONT)
		continued++;
	else
		seen++;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	int status, tampered, ends[2];
	char byte;
	check(pipe(ends) == 0, "pipe");
	pid_t pid = fork();
	if (pid == 0) {
		signal(SIGUSR1, count);
		signal(SIGCONT, count);
		check(write(ends[1], "x", 1) == 1, "write");
		while (!gone(&tampered) || !seen || !continued)
			usleep(20000);
		_exit(seen * 10 + continued);
	}
	pid_t doomed = fork();
	if (doomed == 0)
		for (;;)
			pause();
	check(read(ends[0], &byte, 1) == 1, "the handlers are set");
	kill(pid, SIGSTOP);
	kill(doomed, SIGSTOP);
	check(waitpid(pid, &status, WUNTRACED) == pid && waitpid(doomed, &status, WUNTRACED) == doomed, "stop");
	kill(pid, SIGUSR1);
	kill(doomed, SIGTERM);
	checkpoint();
	usleep(100000);
	check(waitpid(pid, &status, WNOHANG) == 0 && waitpid(doomed, &status, WNOHANG) == 0, "still stopped");
	kill(pid, SIGCONT);
	kill(doomed, SIGCONT);
	check(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 11, "the handlers");
	check(waitpid(doomed, &status, 0) == doomed && WTERMSIG(status) == SIGTERM, "the waiting SIGTERM");
	pass();
}
