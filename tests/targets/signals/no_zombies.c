/* SA_NOCLDWAIT with a handler, with SIG_DFL and with SIG_IGN: children end without leaving a zombie. */
#define _GNU_SOURCE
#include "target_api.h"
#include <signal.h>
#include <sys/wait.h>

static volatile int seen;
static int ends[2];

static void count(int number)
{
	seen += number == SIGCHLD;
}

static int family(void (*handler)(int), int flags)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
	int tampered, status;
	sigaction(SIGCHLD, &action, NULL);
	pid_t first = fork();
	if (first == 0) {
		while (!gone(&tampered))
			usleep(20000);
		_exit(1);
	}
	pid_t second = fork();
	if (second == 0)
		_exit(2);
	while (kill(second, 0) == 0 || (handler == count && !seen)) /* two SIGCHLD at once are one */
		usleep(1000);
	check(write(ends[1], "x", 1) == 1, "write");
	while (!gone(&tampered))
		usleep(20000);
	while (waitpid(-1, &status, 0) > 0 || errno == EINTR)
		;
	return errno == ECHILD && seen == (handler == count ? 2 : 0) ? 5 : 6;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pid_t pids[3];
	int status;
	char byte;
	check(pipe(ends) == 0, "pipe");
	for (int i = 0; i < 3; i++)
		if ((pids[i] = fork()) == 0)
			_exit(family(i == 0 ? count : i == 1 ? SIG_DFL : SIG_IGN, i < 2 ? SA_NOCLDWAIT : 0));
	for (int i = 0; i < 3; i++)
		check(read(ends[0], &byte, 1) == 1, "read");
	checkpoint();
	for (int i = 0; i < 3; i++)
		check(waitpid(pids[i], &status, 0) == pids[i] && WEXITSTATUS(status) == 5, "a family");
	pass();
}
