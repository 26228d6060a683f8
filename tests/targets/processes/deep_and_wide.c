/* Eighteen generations, and a parent of forty: each is its parent's child still, and its parent gets its exit code. */
#include "target_api.h"
#include <sys/wait.h>

static int ends[2];

static int generation(int depth)
{
	pid_t above = getppid(), pid = 0;
	int tampered, status = 0;
	if (depth > 0 && (pid = fork()) == 0)
		_exit(generation(depth - 1));
	if (write(ends[1], "x", 1) != 1)
		return 97;
	while (!gone(&tampered))
		usleep(20000);
	if (getppid() != above)
		return 99;
	if (pid && (waitpid(pid, &status, 0) != pid || !WIFEXITED(status)))
		return 98;
	return WEXITSTATUS(status) >= 90 ? WEXITSTATUS(status) : WEXITSTATUS(status) + 1;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pid_t deep, wide[40];
	int status;
	char byte;
	check(pipe(ends) == 0, "pipe");
	if ((deep = fork()) == 0)
		_exit(generation(17));
	for (int i = 0; i < 40; i++)
		if ((wide[i] = fork()) == 0)
			_exit(generation(0) + i);
	for (int i = 0; i < 18 + 40; i++)
		check(read(ends[0], &byte, 1) == 1, "read");
	checkpoint();
	check(waitpid(deep, &status, 0) == deep && status == 18 << 8, "the generations");
	for (int i = 0; i < 40; i++)
		check(waitpid(wide[i], &status, 0) == wide[i] && status == (i + 1) << 8, "a child of many");
	check(wait(&status) == -1 && errno == ECHILD, "a child too many");
	pass();
}
