/* A task in each call that waits for a pipe or its kin: none ends early, each ends when its turn comes. */
#define _GNU_SOURCE
#include "target_api.h"
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum { READ, READV, SPLICE, TEE, POLL, PPOLL, SELECT, PSELECT, EPOLL, EVENT_READ, EVENT_WRITE, WRITE, VMSPLICE, CALLS };

static int in[CALLS][2], out[2], event, full_event;
static pid_t pids[CALLS];

static int wait_in(int call)
{
	int fd = in[call][0];
	char bytes[70000] = "";
	struct iovec parts[2] = {{bytes, 1}, {bytes + 1, 10}}, whole = {bytes, sizeof bytes};
	struct pollfd one = {fd, POLLIN, 0};
	struct timespec hour = {3600, 0};
	struct epoll_event found = {.events = EPOLLIN};
	uint64_t count = 2;
	fd_set set;
	int epoll;
	FD_ZERO(&set);
	FD_SET(fd, &set);
	switch (call) {
	case READ:
		return read(fd, bytes, 10) == 5;
	case READV:
		return readv(fd, parts, 2) == 5;
	case SPLICE:
		return splice(fd, NULL, out[1], NULL, 5, 0) == 5;
	case TEE:
		return tee(fd, out[1], 5, 0) == 5;
	case POLL:
		return poll(&one, 1, -1) == 1 && one.revents == POLLIN;
	case PPOLL:
		return ppoll(&one, 1, &hour, NULL) == 1;
	case SELECT:
		return select(fd + 1, &set, NULL, NULL, NULL) == 1 && FD_ISSET(fd, &set);
	case PSELECT:
		return pselect(fd + 1, &set, NULL, NULL, &hour, NULL) == 1;
	case EPOLL:
		epoll = epoll_create1(0);
		epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &found);
		return epoll_wait(epoll, &found, 1, -1) == 1;
	case EVENT_READ:
		return read(event, &count, 8) == 8 && count == 9;
	case EVENT_WRITE:
		return write(full_event, &count, 8) == 8;
	case WRITE: /* more than the pipe holds; what was written before an interruption is a result */
		while (whole.iov_len > 0) {
			ssize_t n = write(in[call][1], bytes, whole.iov_len);
			if (n <= 0)
				return 0;
			whole.iov_len -= n;
		}
		return 1;
	default:
		for (;;)
			if (vmsplice(in[call][1], &whole, 1, 0) <= 0)
				return 0;
	}
}

int main(int argc, char **argv)
{
	start(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	check(pipe(out) == 0, "pipe");
	event = eventfd(0, 0);
	full_event = eventfd(0, 0);
	uint64_t most = UINT64_MAX - 1;
	check(write(full_event, &most, 8) == 8, "eventfd");
	for (int call = 0; call < CALLS; call++) {
		check(pipe(in[call]) == 0, "pipe");
		pids[call] = fork();
		if (pids[call] == 0)
			_exit(wait_in(call) ? 7 : 8);
	}
	usleep(300000);
	if (checkpoint())
		check(write(in[READ][1], "", 1) == 1, "write");
	usleep(100000);
	char text[64];
	for (int call = 0; call < CALLS; call++)
		if (waitpid(pids[call], NULL, WNOHANG) != 0) {
			snprintf(text, sizeof text, "call %d came to its end", call);
			fail(text);
		}
	for (int call = 0; call < WRITE; call++)
		check(write(in[call][1], "hello", 5) == 5, "write");
	uint64_t nine = 9, got;
	check(write(event, &nine, 8) == 8 && read(full_event, &got, 8) == 8 && got == most, "eventfd");
	size_t total = 0;
	char bytes[70000];
	while (total < sizeof bytes) {
		ssize_t n = read(in[WRITE][0], bytes, sizeof bytes);
		check(n > 0, "read");
		total += n;
	}
	check(total == sizeof bytes, "what the writer wrote");
	for (int n = 0; n < 10; n++)
		check(read(in[VMSPLICE][0], bytes, sizeof bytes) > 0, "what is spliced");
	for (int call = 0; call < VMSPLICE; call++) {
		int status;
		check(waitpid(pids[call], &status, 0) == pids[call], "waitpid");
		check(WIFEXITED(status) && WEXITSTATUS(status) == 7, "the result of a call");
	}
	check(read(out[0], bytes, 100) == 10, "what was spliced and teed");
	kill(pids[VMSPLICE], SIGKILL);
	pass();
}
