/* Three process groups whose leaders are each in the group of the next; a fourth task joins one of them. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sys/wait.h>

int main(int argc, char **argv)
{
	start(argc, argv);
	pid_t pids[4];
	int ends[2], status;
	check(pipe(ends) == 0, "pipe");
	for (int i = 0; i < 4; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			char byte;
			close(ends[1]);
			_exit(read(ends[0], &byte, 1) == 0 ? 0 : 1);
		}
		check(setpgid(pids[i], pids[i]) == 0, "setpgid");
	}
	check(setpgid(pids[3], pids[0]) == 0, "somebody stays in the first group");
	for (int i = 0; i < 3; i++)
		check(setpgid(pids[i], pids[(i + 1) % 3]) == 0, "setpgid across");
	check(setpgid(pids[3], getpgrp()) == 0, "nobody else does");
	if (checkpoint())
		setpgid(pids[1], getpgrp());
	for (int i = 0; i < 3; i++)
		check(getpgid(pids[i]) == pids[(i + 1) % 3], "a group is another one");
	check(setpgid(pids[3], pids[0]) == 0, "join");
	close(ends[1]);
	for (int i = 0; i < 4; i++)
		check(waitpid(pids[i], &status, 0) == pids[i] && status == 0, "wait");
	pass();
}
