/* Threads with descriptor tables of their own (unshare(CLONE_FILES)), alone and shared by two; one has own directories. */
#define _GNU_SOURCE
#include "target_api.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

enum { SHARED = 100, ALONE = 101, OURS = 102, CLOSED = 103 };
static pthread_barrier_t barrier;

static int is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* Leaves the process's table, and has an epoll set, an event and a lock there. */
static void *alone(void *unused)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = 77 };
	struct flock lock = { .l_type = F_WRLCK, .l_start = 5, .l_len = 3 };
	(void)unused;
	check(unshare(CLONE_FILES) == 0, "unshare");
	close(CLOSED);
	int set = epoll_create1(EPOLL_CLOEXEC), own = dup2(eventfd(9, 0), ALONE);
	check(own == ALONE && epoll_ctl(set, EPOLL_CTL_ADD, own, &event) == 0, "epoll_ctl");
	check(fcntl(SHARED, F_SETLK, &lock) == 0, "F_SETLK");
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	eventfd_t count;
	event.data.u64 = 0;
	check(epoll_wait(set, &event, 1, 0) == 1 && event.data.u64 == 77, "the thread's epoll set");
	check(eventfd_read(own, &count) == 0 && count == 9, "the thread's event");
	check(fcntl(set, F_GETFD) == FD_CLOEXEC && fcntl(own, F_GETFD) == 0, "close-on-exec");
	check(!is_open(CLOSED) && !is_open(OURS), "the thread has descriptors of others");
	check(lseek(SHARED, 0, SEEK_CUR) == 4321, "the shared position");
	lock = (struct flock){ .l_type = F_WRLCK, .l_start = 5, .l_len = 3 };
	check(fcntl(SHARED, F_GETLK, &lock) == 0 && lock.l_type == F_UNLCK, "the thread's own lock");
	pthread_barrier_wait(&barrier);
	return NULL;
}

static void *second(void *unused)
{
	(void)unused;
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	check(is_open(OURS) && !is_open(ALONE), "the table of two threads");
	check(dup2(SHARED, 120) == 120, "dup2");
	pthread_barrier_wait(&barrier);
	return NULL;
}

/* Leaves table and directories, and starts a thread that shares both. */
static void *first(void *unused)
{
	pthread_t other;
	(void)unused;
	check(unshare(CLONE_FILES) == 0 && dup2(SHARED, OURS) == OURS, "unshare");
	pthread_create(&other, NULL, second, NULL);
	check(unshare(CLONE_FS) == 0, "unshare");
	umask(0137);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	check(umask(0137) == 0137, "the thread's umask");
	pthread_barrier_wait(&barrier);
	check(is_open(120), "the two threads' table is not shared");
	pthread_join(other, NULL);
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t a, b;
	umask(022);
	check(dup2(open("shared", O_RDWR | O_CREAT, 0600), SHARED) == SHARED, "open");
	lseek(SHARED, 4321, SEEK_SET);
	dup2(SHARED, CLOSED);
	pthread_barrier_init(&barrier, NULL, 4);
	pthread_create(&a, NULL, alone, NULL);
	pthread_create(&b, NULL, first, NULL);
	pthread_barrier_wait(&barrier);
	checkpoint();
	check(is_open(CLOSED) && !is_open(OURS) && !is_open(ALONE), "the process's table");
	struct flock lock = { .l_type = F_WRLCK, .l_start = 0, .l_len = 100 };
	check(fcntl(SHARED, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK && lock.l_start == 5, "the thread's lock");
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	check(umask(0) == 022 && !is_open(120), "the process has what is the threads'");
	pass();
}
