/* Timed waits go on with what was left, not with the full time: 8 s asked for, the dump comes after three. */
#define _GNU_SOURCE
#include "target_api.h"
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <time.h>

enum { SECONDS = 8 };
static struct timespec ended[9];
static volatile int over;
static const char *names[] = {"nanosleep", "clock_nanosleep", "poll", "futex", "select", "epoll_wait", "sigtimedwait",
	"semtimedop", "nanosleep without rest"};
static int sem;
static unsigned word;

static void *wait_in(void *argument)
{
	long kind = (long)argument;
	struct timespec t = {SECONDS, 0}, rest = {0, 0};
	struct timeval tv = {SECONDS, 0};
	struct epoll_event event;
	struct sembuf op = {0, -1, 0};
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	switch (kind) {
	case 0: check(nanosleep(&t, &rest) == 0, names[kind]); break;
	case 1: check(clock_nanosleep(CLOCK_BOOTTIME, 0, &t, NULL) == 0, names[kind]); break;
	case 2: check(poll(NULL, 0, SECONDS * 1000) == 0, names[kind]); break;
	case 3: check(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &t, NULL, 0) == -1 && errno == ETIMEDOUT, names[kind]); break;
	case 4: check(select(0, NULL, NULL, NULL, &tv) == 0, names[kind]); break;
	case 5: check(epoll_wait(epoll_create1(0), &event, 1, SECONDS * 1000) == 0, names[kind]); break;
	case 6: check(sigtimedwait(&set, NULL, &t) == -1 && errno == EAGAIN, names[kind]); break;
	case 7: check(semtimedop(sem, &op, 1, &t) == -1 && errno == EAGAIN, names[kind]); break;
	case 8: check(syscall(SYS_nanosleep, &t, NULL) == 0, names[kind]); break;
	}
	check(t.tv_sec == SECONDS && t.tv_nsec == 0, "the caller's timespec was changed");
	clock_gettime(CLOCK_MONOTONIC, &ended[kind]);
	__sync_fetch_and_add(&over, 1);
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t threads[9];
	struct timespec began, went, last, step = {0, 5000000};
	sigset_t set;
	int tampered = 0;
	double outside = 0;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sem = semget(IPC_PRIVATE, 1, 0600);
	clock_gettime(CLOCK_MONOTONIC, &began);
	for (long i = 0; i < 9; i++)
		pthread_create(&threads[i], NULL, wait_in, (void *)i);
	usleep(3000000);
	char text[32];
	snprintf(text, sizeof text, "%d", (int)getpid());
	clock_gettime(CLOCK_MONOTONIC, &last);
	publish("ready", text);
	while (!gone(&tampered) || over < 9) {
		nanosleep(&step, NULL);
		clock_gettime(CLOCK_MONOTONIC, &went);
		double passed = went.tv_sec - last.tv_sec + (went.tv_nsec - last.tv_nsec) / 1e9;
		if (passed > 0.1) /* frozen, or not there at all */
			outside += passed;
		last = went;
	}
	for (int i = 0; i < 9; i++) {
		pthread_join(threads[i], NULL);
		double took = ended[i].tv_sec - began.tv_sec + (ended[i].tv_nsec - began.tv_nsec) / 1e9;
		fprintf(stderr, "%s: %.3f s, of which %.3f outside\n", names[i], took, outside);
		check(took >= SECONDS - 0.001, "too early");
		check(took < SECONDS + outside + 2.5, names[i]); /* the full time again would be three seconds more */
	}
	semctl(sem, 0, IPC_RMID);
	pass();
}
