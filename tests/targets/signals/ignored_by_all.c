/* Ignored signals stay ignored, across exec too; what was pending and blocked when it became ignored is gone. */
#define _GNU_SOURCE
#include "target_api.h"
#include <signal.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	start(argc, argv);
	sigset_t set;
	int status;
	for (int n = 1; n < 65; n++)
		if (n != SIGKILL && n != SIGSTOP && n != 32 && n != 33 && n != SIGCHLD)
			signal(n, SIG_IGN);
	checkpoint();
	for (int n = 1; n < 65; n++)
		if (n != SIGKILL && n != SIGSTOP && n != 32 && n != 33 && n != SIGCHLD)
			check(raise(n) == 0, "raise");
	sigpending(&set);
	check(sigisemptyset(&set), "pending");
	pid_t pid = fork();
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", "kill -TERM $$; kill -HUP $$; exit 12", (char *)NULL);
		_exit(1);
	}
	check(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 12, "after exec");
	pass();
}
