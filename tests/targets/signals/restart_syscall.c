/* Two signals delivered during one read with SA_RESTART, counted by a C handler at once. */
#define _GNU_SOURCE
#include "target_api.h"
#include <signal.h>
#include <sys/wait.h>

static volatile int seen;

static void count(int number)
{
	(void)number;
	seen++;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	int data[2], answer[2];
	check(pipe(data) == 0 && pipe(answer) == 0, "pipe");
	pid_t pid = fork();
	if (pid == 0) {
		struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};
		sigaction(SIGUSR1, &action, NULL);
		action.sa_flags = 0;
		sigaction(SIGUSR2, &action, NULL);
		char byte = 'r';
		check(write(answer[1], &byte, 1) == 1, "write");
		ssize_t n = read(data[0], &byte, 1); /* restarted */
		int first = seen;
		check(write(answer[1], &byte, 1) == 1, "write");
		ssize_t m = read(data[0], &byte, 1); /* interrupted */
		_exit(n == 1 && first == 1 && m == -1 && errno == EINTR ? 6 : 7);
	}
	char byte;
	close(answer[1]);
	check(read(answer[0], &byte, 1) == 1, "child");
	usleep(100000);
	if (checkpoint())
		kill(pid, SIGKILL);
	kill(pid, SIGUSR1);
	usleep(100000);
	check(write(data[1], "x", 1) == 1, "write");
	check(read(answer[0], &byte, 1) == 1, "child after");
	int status = 0;
	while (waitpid(pid, &status, WNOHANG) == 0) {
		kill(pid, SIGUSR2);
		usleep(50000);
	}
	check(WIFEXITED(status) && WEXITSTATUS(status) == 6, "the child's calls");
	pass();
}
