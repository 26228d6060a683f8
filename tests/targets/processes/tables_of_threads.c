/* A child that shares descriptor table and directories of its parent's second thread (clone with CLONE_FILES and
 * CLONE_FS), and a thread that still shares the table of its process's parent, which the process's first thread left. */
#define _GNU_SOURCE
#include "target_api.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { OURS = 100, PARENTS = 110 };
static pthread_barrier_t barrier;
static char stacks[2][1 << 16] __attribute__((aligned(16)));
static volatile int *stages; /* shared by all */

static void until(int at, int value)
{
	while (stages[at] < value)
		usleep(5000);
}

static int is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* The child of the thread. */
static int child(void *unused)
{
	(void)unused;
	stages[0] = 1;
	until(1, 1);
	if (umask(0123) != 0177)
		return 3;
	return !(is_open(OURS) && !is_open(PARENTS) && dup2(OURS, 105) == 105);
}

static void *owner(void *unused)
{
	int status;
	(void)unused;
	check(unshare(CLONE_FILES | CLONE_FS) == 0 && dup2(1, OURS) == OURS, "unshare");
	close(PARENTS);
	umask(0177);
	pid_t pid = clone(child, stacks[0] + sizeof stacks[0], CLONE_FILES | CLONE_FS | SIGCHLD, NULL);
	until(0, 1);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	check(waitpid(pid, &status, __WNOTHREAD) == pid && WEXITSTATUS(status) == 0, "the thread's child");
	check(is_open(105), "the child's table is another one");
	check(umask(0) == 0123, "the child's umask is another one");
	return NULL;
}

static void *keeper(void *unused)
{
	(void)unused;
	stages[2] = 1;
	until(2, 2);
	until(1, 1);
	if (is_open(PARENTS) && dup2(PARENTS, 111) == 111)
		stages[3] = 1;
	return NULL;
}

/* Its first thread leaves the table that its second one goes on to share with the parent. */
static int leaver(void *unused)
{
	pthread_t t;
	(void)unused;
	pthread_create(&t, NULL, keeper, NULL);
	until(2, 1);
	unshare(CLONE_FILES);
	close(PARENTS);
	stages[2] = 2;
	pthread_join(t, NULL);
	return is_open(111) || is_open(PARENTS);
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t t;
	int status;
	umask(022);
	stages = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(dup2(1, PARENTS) == PARENTS, "dup2");
	pthread_barrier_init(&barrier, NULL, 2);
	pthread_create(&t, NULL, owner, NULL);
	pthread_barrier_wait(&barrier);
	pid_t pid = clone(leaver, stacks[1] + sizeof stacks[1], CLONE_FILES | SIGCHLD, NULL);
	until(2, 2);
	checkpoint();
	check(is_open(PARENTS) && !is_open(OURS), "the process's table");
	check(umask(022) == 022, "the process's umask");
	stages[1] = 1;
	pthread_barrier_wait(&barrier);
	pthread_join(t, NULL);
	check(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 0, "the process that left");
	check(stages[3] && is_open(111) && !is_open(105), "the table that it left");
	pass();
}
