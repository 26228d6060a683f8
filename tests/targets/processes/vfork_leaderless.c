/* Threads that wait in vfork in processes whose first thread has ended: the only one left, and one of two. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

static char go_file[512];

static void wait_for_go(void) /* without a lock or a signal: the memory is the parent's too */
{
	struct timespec moment = {0, 20000000};
	while (access(go_file, F_OK))
		nanosleep(&moment, NULL);
}

static void *forker(void *unused)
{
	int status;
	pid_t session = getsid(0), child = vfork();
	if (child == 0) {
		wait_for_go();
		_exit(getsid(0) == session ? 3 : 4);
	}
	_exit(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3 && getsid(0) == getpid() ? 5 : 6);
	return unused;
}

static void *waiter(void *unused)
{
	for (;;)
		pause();
	return unused;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pid_t children[2];
	int status;
	snprintf(go_file, sizeof go_file, "%s/go", directory);
	for (int beside = 0; beside < 2; beside++)
		if ((children[beside] = fork()) == 0) {
			pthread_t thread;
			setsid();
			if (beside)
				pthread_create(&thread, NULL, waiter, NULL);
			pthread_create(&thread, NULL, forker, NULL);
			syscall(SYS_exit, 0);
		}
	usleep(300000);
	checkpoint();
	for (int beside = 0; beside < 2; beside++)
		check(waitpid(children[beside], &status, 0) == children[beside] && WIFEXITED(status) && WEXITSTATUS(status) == 5, beside ? "one of two" : "alone");
	pass();
}
