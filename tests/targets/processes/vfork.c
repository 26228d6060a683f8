/* A parent suspended in vfork while its child runs on: each goes on as it should. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sys/wait.h>

int main(int argc, char **argv)
{
	start(argc, argv);
	pid_t middle = fork();
	if (middle == 0) {
		volatile int shared = 0;
		pid_t pid = vfork();
		if (pid == 0) {
			int tampered;
			while (!gone(&tampered))
				usleep(20000);
			shared = 55;
			_exit(4);
		}
		int status;
		waitpid(pid, &status, 0);
		_exit(shared == 55 && WEXITSTATUS(status) == 4 ? 8 : 9);
	}
	int status;
	await_state(middle, 'D'); /* in vfork */
	checkpoint();
	check(waitpid(middle, &status, 0) == middle && WEXITSTATUS(status) == 8, "the suspended parent");
	pass();
}
