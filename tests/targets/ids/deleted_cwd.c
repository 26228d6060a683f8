/* A working directory that was removed: still a removed directory, with its owner and mode, and a way up. */
#define _GNU_SOURCE
#include "target_api.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	start(argc, argv);
	char path[512], cwd[512];
	struct stat before, now;
	int status;
	snprintf(path, sizeof path, "%s/gone", directory);
	check(mkdir(path, 0750) == 0 && chdir(path) == 0, "mkdir");
	pid_t pid = fork();
	if (pid == 0) {
		int tampered;
		while (!gone(&tampered))
			usleep(20000);
		_exit(open("file", O_CREAT | O_WRONLY, 0600) == -1 && errno == ENOENT ? 5 : 6);
	}
	check(rmdir(path) == 0 && stat(".", &before) == 0, "rmdir");
	checkpoint();
	check(getcwd(cwd, sizeof cwd) == NULL && errno == ENOENT, "it has a path");
	check(stat(".", &now) == 0 && now.st_nlink == 0 && now.st_mode == before.st_mode, "its mode");
	check(access(path, F_OK) == -1, "it is there again");
	check(open("file", O_CREAT | O_WRONLY, 0600) == -1 && errno == ENOENT, "a file in it");
	check(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5, "the child");
	pass();
}
