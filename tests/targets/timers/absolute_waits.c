/* Waits until a point in time: none ends before it, none with EINTR, none much later. */
#define _GNU_SOURCE
#include "target_api.h"
#include <linux/futex.h>
#include <linux/aio_abi.h>
#include <mqueue.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

enum { SECONDS = 4 };
#define N 18
static struct timespec ended[N];
static const char *names[N] = {"cond monotonic", "cond realtime", "sem_timedwait", "mutex_timedlock", "rwlock", "futex bitset abs",
	"futex lock_pi", "futex_waitv", "mq_timedreceive", "nanosleep abs realtime", "nanosleep abs monotonic",
	"nanosleep abs boottime", "nanosleep abs tai", "ppoll", "pselect", "epoll_pwait2", "io_getevents", "sem_clockwait"};
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static sem_t sem;
static unsigned word, pi;
static mqd_t queue;

static struct timespec in(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	t.tv_sec += SECONDS;
	return t;
}

static void *wait_in(void *argument)
{
	long kind = (long)argument;
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t cond;
	pthread_condattr_t attr;
	struct timespec t, rel = {SECONDS, 0};
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	switch (kind) {
	case 0: case 1:
		pthread_condattr_init(&attr);
		pthread_condattr_setclock(&attr, kind ? CLOCK_REALTIME : CLOCK_MONOTONIC);
		pthread_cond_init(&cond, &attr);
		pthread_mutex_lock(&mutex);
		t = in(kind ? CLOCK_REALTIME : CLOCK_MONOTONIC);
		check(pthread_cond_timedwait(&cond, &mutex, &t) == ETIMEDOUT, names[kind]);
		break;
	case 2: t = in(CLOCK_REALTIME); check(sem_timedwait(&sem, &t) == -1 && errno == ETIMEDOUT, names[kind]); break;
	case 3: t = in(CLOCK_REALTIME); check(pthread_mutex_timedlock(&held, &t) == ETIMEDOUT, names[kind]); break;
	case 4: t = in(CLOCK_REALTIME); check(pthread_rwlock_timedrdlock(&lock, &t) == ETIMEDOUT, names[kind]); break;
	case 5: t = in(CLOCK_MONOTONIC);
		check(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, &t, NULL, 5) == -1 && errno == ETIMEDOUT, names[kind]); break;
	case 6: t = in(CLOCK_REALTIME);
		check(syscall(SYS_futex, &pi, FUTEX_LOCK_PI_PRIVATE, 0, &t, NULL, 0) == -1 && errno == ETIMEDOUT, names[kind]); break;
	case 7: {
		struct { unsigned long val, uaddr; unsigned flags, reserved; } w = {0, (unsigned long)&word, 2 | 128, 0};
		t = in(CLOCK_MONOTONIC);
		long r = syscall(449, &w, 1, 0, &t, CLOCK_MONOTONIC);
		check(r == -1 && (errno == ETIMEDOUT || errno == ENOSYS), names[kind]);
		if (errno == ENOSYS) { clock_gettime(CLOCK_MONOTONIC, &ended[kind]); ended[kind].tv_sec += SECONDS; return NULL; }
		break;
	}
	case 8: { char m[64]; t = in(CLOCK_REALTIME); check(mq_timedreceive(queue, m, 64, NULL, &t) == -1 && errno == ETIMEDOUT, names[kind]); break; }
	case 9: t = in(CLOCK_REALTIME); check(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, NULL) == 0, names[kind]); break;
	case 10: t = in(CLOCK_MONOTONIC); check(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == 0, names[kind]); break;
	case 11: t = in(CLOCK_BOOTTIME); check(clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &t, NULL) == 0, names[kind]); break;
	case 12: t = in(CLOCK_TAI); check(clock_nanosleep(CLOCK_TAI, TIMER_ABSTIME, &t, NULL) == 0, names[kind]); break;
	case 13: check(ppoll(NULL, 0, &rel, &set) == 0, names[kind]); break;
	case 14: check(pselect(0, NULL, NULL, NULL, &rel, &set) == 0, names[kind]); break;
	case 15: { struct epoll_event e; check(syscall(441, epoll_create1(0), &e, 1, &rel, NULL, 0) == 0, names[kind]); break; }
	case 16: { aio_context_t c = 0; struct io_event e; check(syscall(SYS_io_setup, 4, &c) == 0, "io_setup");
		check(syscall(SYS_io_getevents, c, 1, 1, &e, &rel) == 0, names[kind]); break; }
	case 17: t = in(CLOCK_MONOTONIC); check(sem_clockwait(&sem, CLOCK_MONOTONIC, &t) == -1 && errno == ETIMEDOUT, names[kind]); break;
	}
	clock_gettime(CLOCK_MONOTONIC, &ended[kind]);
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t threads[N];
	struct timespec began;
	struct mq_attr attr = {0, 4, 64, 0};
	char name[64]; /* of its own: another run of it may be under way */
	snprintf(name, sizeof name, "/ckpt-absolute-waits-%d", (int)getpid());
	mq_unlink(name);
	queue = mq_open(name, O_CREAT | O_RDWR, 0600, &attr);
	check(queue >= 0, "mq_open");
	sem_init(&sem, 0, 0);
	pi = syscall(SYS_gettid);
	pthread_mutex_lock(&held);
	pthread_rwlock_wrlock(&lock);
	clock_gettime(CLOCK_MONOTONIC, &began);
	for (long i = 0; i < N; i++)
		pthread_create(&threads[i], NULL, wait_in, (void *)i);
	usleep(300000);
	checkpoint();
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	double late = now.tv_sec - began.tv_sec + (now.tv_nsec - began.tv_nsec) / 1e9;
	for (int i = 0; i < N; i++) {
		pthread_join(threads[i], NULL);
		double took = ended[i].tv_sec - began.tv_sec + (ended[i].tv_nsec - began.tv_nsec) / 1e9;
		fprintf(stderr, "%s: %.3f s (checkpoint over at %.3f)\n", names[i], took, late);
		if (took < SECONDS - 0.001)
			fail(names[i]);
		check(took < (late > SECONDS ? late : SECONDS) + SECONDS + 20, "too late"); /* 20: a thread that is kept waiting */
	}
	mq_unlink(name);
	pass();
}
