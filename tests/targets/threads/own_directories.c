/* A thread that has left the shared working directory, root and umask behind: unshare(CLONE_FS). */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>

static pthread_barrier_t barrier;
static int done;

static void *own(void *u)
{
	char here[512];
	check(unshare(CLONE_FS) == 0, "unshare");
	check(chdir("/usr") == 0, "chdir");
	umask(0137);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	check(getcwd(here, sizeof here) && !strcmp(here, "/usr"), "the thread's cwd");
	check(umask(0) == 0137, "the thread's umask");
	done = 1;
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	char before[512], after[512];
	pthread_t t;
	umask(022);
	getcwd(before, 512);
	pthread_barrier_init(&barrier, NULL, 2);
	pthread_create(&t, NULL, own, NULL);
	pthread_barrier_wait(&barrier);
	checkpoint();
	pthread_barrier_wait(&barrier);
	pthread_join(t, NULL);
	getcwd(after, 512);
	check(!strcmp(before, after) && umask(0) == 022, "the process's");
	pass();
}
