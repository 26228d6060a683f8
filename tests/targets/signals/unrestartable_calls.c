/* Calls that the kernel ends with EINTR for any interruption: a freeze must not show. */
#define _GNU_SOURCE
#include "target_api.h"
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

enum { EPOLL, EPOLL_MASK, SEMAPHORE, SIGWAIT, RECEIVE, CALLS };
static int waiting[CALLS], epoll_fd, semaphore, pair[2], wake[2];

static void handler(int number)
{
	(void)number;
}

/* 0 when the call was left alone and then came to its end, 1 when it gave EINTR, 2 for anything else. */
static int blocked(int call)
{
	struct epoll_event event;
	struct sembuf down = {0, -1, 0};
	struct timespec long_ = {600, 0};
	sigset_t mask;
	char byte;
	long result = -1;
	sigemptyset(&mask);
	errno = 0;
	if (call == EPOLL)
		result = epoll_wait(epoll_fd, &event, 1, -1);
	if (call == EPOLL_MASK)
		result = epoll_pwait(epoll_fd, &event, 1, 600000, &mask);
	if (call == SEMAPHORE)
		result = semop(semaphore, &down, 1);
	if (call == RECEIVE)
		result = recv(pair[0], &byte, 1, 0);
	if (call == SIGWAIT) {
		sigaddset(&mask, SIGUSR2);
		result = sigtimedwait(&mask, NULL, &long_);
	}
	return result > 0 || (result == 0 && call == SEMAPHORE) ? 0 : errno == EINTR ? 1 : 2;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	struct sigaction action = {.sa_handler = handler};
	sigaction(SIGUSR1, &action, NULL);
	sigset_t mask;
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR2);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	struct timeval long_ = {600, 0};
	struct epoll_event event = {.events = EPOLLIN};
	check(pipe(wake) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "pipe");
	setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &long_, sizeof long_);
	epoll_fd = epoll_create1(0);
	check(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, wake[0], &event) == 0, "epoll_ctl");
	semaphore = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
	for (int call = 0; call < CALLS; call++) {
		waiting[call] = fork();
		if (waiting[call] == 0)
			_exit(blocked(call));
	}
	for (int call = 0; call < CALLS; call++)
		await_state(waiting[call], 'S');
	if (checkpoint())
		kill(waiting[EPOLL], SIGUSR1);
	usleep(100000);
	for (int call = 0; call < CALLS; call++)
		check(waitpid(waiting[call], NULL, WNOHANG) == 0, "a call came to its end");
	check(write(wake[1], "x", 1) == 1 && write(pair[1], "x", 1) == 1, "write");
	struct sembuf up = {0, 1, 0};
	semop(semaphore, &up, 1);
	kill(waiting[SIGWAIT], SIGUSR2);
	for (int call = 0; call < CALLS; call++) {
		int status;
		check(waitpid(waiting[call], &status, 0) == waiting[call] && status == 0, "a call was interrupted");
	}
	semctl(semaphore, 0, IPC_RMID);
	pass();
}
