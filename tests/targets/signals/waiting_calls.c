/* Calls that wait for ever go on waiting: not one of them fails with EINTR because of a dump. */
#define _GNU_SOURCE
#include "target_api.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

static int pipes[16][2], pair[2], sem, queue, listener, held, watch;
static unsigned word;
static struct sockaddr_un name;
static pid_t child;

static int ready(int n)
{
	return pipes[n][0];
}

static void *w_read(void *u) { char c; check(read(ready(0), &c, 1) == 1, "read"); return u; }
static void *w_poll(void *u) { struct pollfd p = {ready(1), POLLIN, 0}; check(poll(&p, 1, -1) == 1, "poll"); return u; }
static void *w_ppoll(void *u) { struct pollfd p = {ready(2), POLLIN, 0}; check(ppoll(&p, 1, NULL, NULL) == 1, "ppoll"); return u; }
static void *w_select(void *u)
{
	fd_set set;
	FD_ZERO(&set);
	FD_SET(ready(3), &set);
	check(select(ready(3) + 1, &set, NULL, NULL, NULL) == 1, "select");
	return u;
}
static void *w_epoll(void *u)
{
	struct epoll_event event = {EPOLLIN, {0}};
	int fd = epoll_create1(0);
	epoll_ctl(fd, EPOLL_CTL_ADD, ready(4), &event);
	check(epoll_wait(fd, &event, 1, -1) == 1, "epoll_wait");
	return u;
}
static void *w_epoll_pwait(void *u)
{
	struct epoll_event event = {EPOLLIN, {0}};
	sigset_t mask;
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR2);
	sigaddset(&mask, SIGRTMIN + 1);
	int fd = epoll_create1(0);
	epoll_ctl(fd, EPOLL_CTL_ADD, ready(5), &event);
	check(epoll_pwait(fd, &event, 1, -1, &mask) == 1, "epoll_pwait");
	return u;
}
static void *w_sigwaitinfo(void *u)
{
	sigset_t set;
	siginfo_t info;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	check(sigwaitinfo(&set, &info) == SIGRTMIN + 1 && info.si_value.sival_int == 8, "sigwaitinfo");
	return u;
}
static void *w_semop(void *u) { struct sembuf op = {0, -1, 0}; check(semop(sem, &op, 1) == 0, "semop"); return u; }
static void *w_msgrcv(void *u) { struct { long t; char d[8]; } m; check(msgrcv(queue, &m, 8, 5, 0) == 3, "msgrcv"); return u; }
static void *w_recv(void *u) { char c; check(recv(pair[0], &c, 1, 0) == 1, "recv"); return u; }
static void *w_accept(void *u) { check(accept(listener, NULL, NULL) >= 0, "accept"); return u; }
static void *w_futex(void *u) { check(syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0) == 0, "futex"); return u; }
static void *w_wait(void *u) { int s; check(waitpid(child, &s, 0) == child, "waitpid"); return u; }
static void *w_flock(void *u) { check(flock(held, LOCK_EX) == 0, "flock"); return u; }
static void *w_inotify(void *u) { char d[256]; check(read(watch, d, 256) > 0, "inotify"); return u; }

int main(int argc, char **argv)
{
	start(argc, argv);
	void *(*work[])(void *) = {w_read, w_poll, w_ppoll, w_select, w_epoll, w_epoll_pwait, w_sigwaitinfo, w_semop,
		w_msgrcv, w_recv, w_accept, w_futex, w_wait, w_flock, w_inotify};
	int n = sizeof work / sizeof *work, lock;
	pthread_t threads[32];
	char path[512];
	sigset_t blocked;
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGRTMIN + 1);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	for (int i = 0; i < 6; i++)
		check(pipe(pipes[i]) == 0, "pipe");
	check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair");
	sem = semget(IPC_PRIVATE, 1, 0600);
	queue = msgget(IPC_PRIVATE, 0600);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	name.sun_family = AF_UNIX;
	snprintf(name.sun_path, sizeof name.sun_path, "%s/s", directory);
	check(bind(listener, (void *)&name, sizeof name) == 0 && listen(listener, 5) == 0, "listen");
	snprintf(path, sizeof path, "%s/lock", directory);
	lock = open(path, O_CREAT | O_RDWR, 0600);
	held = open(path, O_RDWR);
	check(flock(lock, LOCK_EX) == 0, "flock");
	snprintf(path, sizeof path, "%s/watched", directory);
	close(open(path, O_CREAT | O_RDWR, 0600));
	watch = inotify_init1(0);
	inotify_add_watch(watch, path, IN_ATTRIB);
	if ((child = fork()) == 0)
		for (;;)
			pause();
	for (int i = 0; i < n; i++)
		pthread_create(&threads[i], NULL, work[i], NULL);
	await_threads_asleep();
	checkpoint();
	usleep(200000);
	for (int i = 0; i < 6; i++)
		check(write(pipes[i][1], "x", 1) == 1, "write");
	union sigval value = {.sival_int = 8};
	sigqueue(getpid(), SIGRTMIN + 1, value);
	struct sembuf op = {0, 1, 0};
	semop(sem, &op, 1);
	struct { long t; char d[8]; } m = {5, "abc"};
	msgsnd(queue, &m, 3, 0);
	check(write(pair[1], "x", 1) == 1, "write");
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	check(connect(fd, (void *)&name, sizeof name) == 0, "connect");
	while (syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0) != 1)
		usleep(1000); /* not in it yet */
	kill(child, SIGKILL);
	flock(lock, LOCK_UN);
	chmod(path, 0644);
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	semctl(sem, 0, IPC_RMID);
	msgctl(queue, IPC_RMID, NULL);
	pass();
}
