/* Daemons are born all the time, by forking twice: a subreaper gets them all, each with its status. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sys/prctl.h>
#include <sys/wait.h>

enum { MIDDLE = 40, DAEMON = 41 };

int main(int argc, char **argv)
{
	start(argc, argv);
	int status, tampered = 0;
	long made = 0, ended[2] = {0, 0};
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	publish("ready", "");
	while (!gone(&tampered)) {
		pid_t pid = fork();
		check(pid >= 0, "fork");
		if (pid == 0) {
			setsid();
			if (fork() != 0)
				_exit(MIDDLE);
			setpgid(0, 0);
			usleep(5000);
			_exit(getpgrp() == getpid() ? DAEMON : 1);
		}
		made++;
		while (2 * made - ended[0] - ended[1] > 16) {
			check(wait(&status) > 0 && WIFEXITED(status), "wait");
			check(WEXITSTATUS(status) == MIDDLE || WEXITSTATUS(status) == DAEMON, "a status");
			ended[WEXITSTATUS(status) - MIDDLE]++;
		}
	}
	while (wait(&status) > 0)
		ended[WEXITSTATUS(status) - MIDDLE]++;
	check(ended[0] == made && ended[1] == made + tampered, "how many ended");
	pass();
}
