/* A thread that is not the first waits in vfork: it goes on when its child ends, and not when the dump ends that. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

static volatile long turns;
static char path[512];

static void *count(void *unused)
{
	for (;;) {
		turns++;
		usleep(1000);
	}
	return unused;
}

static void *wait_in_vfork(void *unused)
{
	int status;
	pid_t pid = vfork();
	if (pid == 0) {
		while (syscall(SYS_access, path, F_OK)) {
			struct timespec time = {0, 5000000};
			syscall(SYS_nanosleep, &time, NULL);
		}
		_exit(6);
	}
	check(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 6, "the child");
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t waiting, counting;
	start(argc, argv);
	snprintf(path, sizeof path, "%s/go", directory);
	pthread_create(&waiting, NULL, wait_in_vfork, NULL);
	pthread_create(&counting, NULL, count, NULL);
	usleep(50000);
	check(!checkpoint(), "tampered with");
	pthread_join(waiting, NULL);
	for (long before = turns; turns < before + 3;)
		usleep(1000);
	pass();
}
