/* A target whose child is in a namespace of its own, of the kind that NAMESPACE says; FILL, if it is defined, puts something
   into it, and gives -1 where that fails. */
#pragma once
#define _GNU_SOURCE
#include "target_api.h"
#include <sched.h>
#include <sys/wait.h>

#ifndef FILL
#define FILL 0
#endif

int main(int argc, char **argv)
{
	start(argc, argv);
	int status, ends[2];
	char byte;
	check(pipe(ends) == 0, "pipe");
	pid_t pid = fork();
	if (pid == 0) {
		int tampered;
		if (unshare(NAMESPACE) == -1 || FILL == -1)
			skip("no such namespaces");
		check(write(ends[1], "x", 1) == 1, "write");
		while (!gone(&tampered))
			usleep(20000);
		_exit(5);
	}
	check(read(ends[0], &byte, 1) == 1, "read");
	checkpoint();
	check(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5, "the child");
	pass();
}
