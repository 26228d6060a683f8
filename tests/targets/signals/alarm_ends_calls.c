/* A signal that comes while nobody runs: with SA_RESTART a read goes on after its handler, all else ends with EINTR. */
#define _GNU_SOURCE
#include "target_api.h"
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

enum { KINDS = 10 };
static volatile int *handled, *mine; /* for each kind, which all can see */
static int quiet[2], later[2], armed[2];

static void handler(int number)
{
	(void)number;
	(*mine)++;
}

static int interrupted(long result)
{
	return result == -1 && errno == EINTR && *mine == 1;
}

/* Sets the timer once the first thread waits: a signal that came before would end nothing. */
static void *arm(void *unused)
{
	struct itimerval soon = {{0, 0}, {0, 700000}};
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	await_state(getpid(), 'S');
	setitimer(ITIMER_REAL, &soon, NULL);
	check(write(armed[1], "x", 1) == 1, "write");
	return unused;
}

static int wait_in(int kind)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = kind == 0 || kind == 9 ? SA_RESTART : 0};
	pthread_t thread;
	struct timespec long_ = {600, 0}, rest = {0, 0};
	struct pollfd fd = {quiet[0], POLLIN, 0};
	struct epoll_event event;
	unsigned word = 0;
	sigset_t set;
	fd_set reads;
	char byte;
	int status;
	pid_t child = 0;
	sigaction(SIGALRM, &action, NULL);
	mine = handled + kind;
	if (kind == 9 && (child = fork()) == 0) {
		while (!*mine)
			usleep(5000);
		_exit(3);
	}
	pthread_create(&thread, NULL, arm, NULL);
	switch (kind) {
	case 0: return read(later[0], &byte, 1) == 1 && *mine == 1;
	case 1: return interrupted(read(quiet[0], &byte, 1));
	case 2: return interrupted(poll(&fd, 1, -1));
	case 3: return interrupted(nanosleep(&long_, &rest)) && rest.tv_sec >= 400 && rest.tv_sec < 600;
	case 4: return interrupted(syscall(SYS_futex, &word, FUTEX_WAIT, 0, &long_, NULL, 0));
	case 5: return interrupted(epoll_wait(epoll_create1(0), &event, 1, 600000));
	case 6:
		sigemptyset(&set);
		sigaddset(&set, SIGUSR1);
		return interrupted(sigtimedwait(&set, NULL, &long_));
	case 7: return interrupted(pause());
	case 8:
		FD_ZERO(&reads);
		FD_SET(quiet[0], &reads);
		return interrupted(select(quiet[0] + 1, &reads, NULL, NULL, NULL));
	case 9: return waitpid(child, &status, 0) == child && *mine == 1; /* it ends after the signal: SA_RESTART */
	}
	return 0;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pid_t pids[KINDS];
	int status;
	char byte;
	check(!pipe(quiet) && !pipe(later) && !pipe(armed), "pipe");
	handled = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < KINDS; i++)
		if ((pids[i] = fork()) == 0)
			_exit(wait_in(i) ? 5 : 6);
	for (int i = 0; i < KINDS; i++)
		check(read(armed[0], &byte, 1) == 1, "read");
	checkpoint();
	for (int tries = 0; tries < 3000 && !handled[0]; tries++)
		usleep(10000);
	check(write(later[1], "x", 1) == 1, "write");
	for (int i = 0; i < KINDS; i++) {
		check(waitpid(pids[i], &status, 0) == pids[i], "waitpid");
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 5) {
			fprintf(stderr, "kind %d: %x\n", i, status);
			fail("a call that a signal ended");
		}
	}
	pass();
}
