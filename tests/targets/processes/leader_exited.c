/* The first thread has ended with pthread_exit; another goes on and writes the verdict. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <sys/syscall.h>

static void *rest(void *leader)
{
	pthread_join(*(pthread_t *)leader, NULL);
	pid_t tid = syscall(SYS_gettid);
	checkpoint();
	check(syscall(SYS_gettid) == tid && tid != getpid(), "the thread's id");
	pass();
	return NULL;
}

int main(int argc, char **argv)
{
	static pthread_t self, other;
	start(argc, argv);
	self = pthread_self();
	pthread_create(&other, NULL, rest, &self);
	pthread_exit(NULL);
}
