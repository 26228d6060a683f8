/* A child's threads hold robust mutexes in a file that the tree maps; that a dump ends them is not written there. */
#define _GNU_SOURCE
#include "target_api.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define LOCKS 3

static struct {
	pthread_mutex_t locks[LOCKS];
	volatile int held;
} *file;

static void *hold(void *lock)
{
	check(pthread_mutex_lock(lock) == 0, "lock");
	__sync_fetch_and_add(&file->held, 1);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	char path[512];
	int status;
	start(argc, argv);
	snprintf(path, sizeof path, "%s/locks", directory);
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	check(fd >= 0 && ftruncate(fd, sizeof *file) == 0, "the file");
	file = mmap(NULL, sizeof *file, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check(file != MAP_FAILED, "mmap");
	for (int i = 0; i < LOCKS; i++) {
		pthread_mutexattr_t kind;
		pthread_mutexattr_init(&kind);
		pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
		pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
		pthread_mutexattr_setprotocol(&kind, i == 2 ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_NONE);
		pthread_mutex_init(&file->locks[i], &kind);
	}
	pid_t pid = fork();
	if (pid == 0) {
		pthread_t thread;
		for (int i = 1; i < LOCKS; i++)
			pthread_create(&thread, NULL, hold, &file->locks[i]);
		hold(&file->locks[0]);
	}
	while (file->held < LOCKS)
		usleep(1000);
	if (checkpoint()) {
		kill(pid, SIGKILL);
		usleep(100000);
	}
	for (int i = 0; i < LOCKS; i++)
		check(pthread_mutex_trylock(&file->locks[i]) == EBUSY, "it is held");
	kill(pid, SIGKILL);
	check(waitpid(pid, &status, 0) == pid && WTERMSIG(status) == SIGKILL, "the child");
	for (int i = 0; i < LOCKS; i++)
		check(pthread_mutex_lock(&file->locks[i]) == EOWNERDEAD, "its owner has ended");
	pass();
}
