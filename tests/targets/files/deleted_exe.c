/* A program whose own file was deleted, with a child that runs from a memfd. */
#define _GNU_SOURCE
#include "target_api.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>

static int value = 1;

static void child_of_memory(void)
{
	int tampered;
	value = 5;
	publish("child", "");
	while (!gone(&tampered))
		usleep(20000);
	char name[256] = "";
	check(readlink("/proc/self/exe", name, sizeof name - 1) > 0, "readlink");
	_exit(value == 5 && strncmp(name, "/memfd:program", 14) == 0 ? 7 : 8);
}

int main(int argc, char **argv)
{
	char path[512], name[512] = "";
	if (argc == 3) {
		directory = argv[1];
		child_of_memory();
	}
	start(argc, argv);
	check(readlink("/proc/self/exe", name, sizeof name - 1) > 0, "readlink");
	int exe = open(name, O_RDONLY), memory = memfd_create("program", MFD_CLOEXEC);
	struct stat about;
	check(exe >= 0 && memory >= 0 && fstat(exe, &about) == 0, "open");
	while (about.st_size > 0)
		about.st_size -= sendfile(memory, exe, NULL, about.st_size);
	close(exe);
	pid_t pid = fork();
	if (pid == 0) {
		char *arguments[] = {argv[0], argv[1], "memory", NULL};
		char mark[512];
		snprintf(mark, sizeof mark, "CKPT_TARGET=%s", getenv("CKPT_TARGET") ? getenv("CKPT_TARGET") : "");
		fexecve(memory, arguments, (char *[]){mark, NULL});
		_exit(99);
	}
	close(memory);
	snprintf(path, sizeof path, "%s/child", directory);
	while (access(path, F_OK) != 0)
		usleep(10000);
	check(unlink(name) == 0, "unlink");
	strcat(name, " (deleted)");
	value = 3;
	if (checkpoint())
		value = 4;
	char now[512] = "";
	check(readlink("/proc/self/exe", now, sizeof now - 1) > 0, "readlink");
	check(strcmp(name, now) == 0, now);
	check(value == 3, "the value");
	int status;
	check(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7, "the child");
	pass();
}
