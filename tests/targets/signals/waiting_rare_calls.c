/* Calls that wait for ever, of the rarer kinds: each goes on and gives what it should. */
#define _GNU_SOURCE
#include "target_api.h"
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#define N 26
static int P[N][2], ev, evw, full, tfd, sfd, locked, ofd, mq_fd, s[2], msgfull, sem;
static mqd_t mqr, mqw;
static char fifo[512], lockpath[512];
static unsigned w1, w2, pi_word;
static pid_t child, pchild;
static int pidfd;
static struct sockaddr_un nm;
static pthread_t T[N];
static char big[65536];
static void ok(int c, const char *w) { if (!c) fail(w); }
static void *run(void *a)
{
	char c, b[256];
	switch ((long)a) {
	case 0: { siginfo_t i; ok(waitid(P_PID, child, &i, WEXITED) == 0 && i.si_status == SIGKILL, "waitid"); break; }
	case 1: { siginfo_t i; ok(waitid(P_PIDFD, pidfd, &i, WEXITED) == 0 && i.si_status == SIGKILL, "waitid pidfd"); break; }
	case 2: { long v; ok(read(ev, &v, 8) == 8 && v == 3, "eventfd read"); break; }
	case 3: { long v = 10; ok(write(evw, &v, 8) == 8, "eventfd write"); break; }
	case 4: ok(write(P[4][1], "q", 1) == 1, "full pipe"); break;
	case 5: { struct iovec v = {"vs", 2}; ok(vmsplice(P[5][1], &v, 1, 0) == 2, "vmsplice"); break; }
	case 6: ok(splice(P[6][0], NULL, P[7][1], NULL, 10, 0) == 3, "splice"); break;
	case 7: ok(tee(P[8][0], P[9][1], 10, 0) == 4, "tee"); break;
	case 8: { struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10}; ok(fcntl(locked, F_OFD_SETLKW, &l) == 0, "F_OFD_SETLKW"); break; }
	case 9: { int f = open(fifo, O_WRONLY); ok(f >= 0, "open fifo"); ok(write(f, "z", 1) == 1, "write fifo"); break; }
	case 10: ok(mq_receive(mqr, b, 256, NULL) == 2, "mq_receive"); break;
	case 11: ok(mq_send(mqw, "m", 1, 0) == 0, "mq_send"); break;
	case 12: { struct { long t; char d[1000]; } m = {1, ""}; ok(msgsnd(msgfull, &m, 1000, 0) == 0, "msgsnd"); break; }
	case 13: { struct sembuf o[2] = {{0, -2, 0}, {1, 1, 0}}; ok(semop(sem, o, 2) == 0, "semop"); break; }
	case 14: { struct { unsigned long v, u; unsigned f, r; } w[2] = {{0, (long)&w1, 130, 0}, {0, (long)&w2, 130, 0}};
		long r = syscall(449, w, 2, 0, NULL, 0); ok(r == 1, "futex_waitv"); break; }
	case 15: ok(syscall(SYS_futex, &pi_word, FUTEX_LOCK_PI_PRIVATE, 0, NULL) == 0, "lock_pi"); break;
	case 16: { unsigned long v; ok(read(tfd, &v, 8) == 8 && v == 1, "timerfd"); break; }
	case 17: { struct signalfd_siginfo i; ok(read(sfd, &i, sizeof i) == sizeof i && i.ssi_int == 66, "signalfd"); break; }
	case 18: { struct mmsghdr h[2] = {0}; char x[8], y[8]; struct iovec v[2] = {{x, 8}, {y, 8}};
		for (int i = 0; i < 2; i++) h[i].msg_hdr.msg_iov = &v[i], h[i].msg_hdr.msg_iovlen = 1;
		ok(recvmmsg(s[0], h, 2, 0, NULL) == 2, "recvmmsg"); break; }
	case 19: { int f = socket(AF_UNIX, SOCK_STREAM, 0); ok(connect(f, (void *)&nm, sizeof nm) == 0, "connect"); break; }
	case 20: ok(readv(P[20][0], &(struct iovec){b, 5}, 1) == 2, "readv"); break;
	case 21: { fd_set set; FD_ZERO(&set); FD_SET(P[21][0], &set); sigset_t m; sigfillset(&m); ok(pselect(P[21][0] + 1, &set, NULL, NULL, NULL, &m) == 1, "pselect"); break; }
	case 22: { struct epoll_event e = {EPOLLIN, {.u32 = 9}}; int f = epoll_create1(0); epoll_ctl(f, EPOLL_CTL_ADD, P[22][0], &e);
		ok(syscall(441, f, &e, 1, NULL, NULL, 0) == 1, "epoll_pwait2"); break; }
	case 23: { sigset_t m; siginfo_t i; sigemptyset(&m); sigaddset(&m, SIGRTMIN + 7); ok(sigwaitinfo(&m, &i) == SIGRTMIN + 7, "sigwaitinfo"); break; }
	case 24: { aio_context_t x = 0; struct io_event e; struct iocb cb = {.aio_fildes = P[24][0], .aio_lio_opcode = 5, .aio_buf = 1}, *cp = &cb;
		syscall(SYS_io_setup, 4, &x); if (syscall(SYS_io_submit, x, 1, &cp) != 1) break;
		struct timespec t = {600, 0}; long r = syscall(SYS_io_getevents, x, 1, 1, &e, &t); fprintf(stderr, "io_getevents %ld %d\n", r, errno); break; }
	case 25: { struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10, .l_start = 100}; ok(fcntl(ofd, F_SETLKW, &l) == 0, "F_SETLKW"); break; }
	}
	return NULL;
}
int main(int argc, char **argv)
{
	start(argc, argv);
	int skip_[N] = {0}, t;
	sigset_t m;
	skip_[24] = 1;
	sigemptyset(&m);
	for (int i = 7; i < 9; i++) sigaddset(&m, SIGRTMIN + i);
	sigprocmask(SIG_BLOCK, &m, NULL);
	for (int i = 0; i < N; i++) pipe(P[i]);
	for (int i = 4; i < 6; i++) {
		fcntl(P[i][1], F_SETFL, O_NONBLOCK);
		while (write(P[i][1], big, 4096) > 0);
		fcntl(P[i][1], F_SETFL, 0);
	}
	child = fork();
	if (!child) for (;;) pause();
	pchild = fork();
	if (!pchild) {
		/* it holds the POSIX lock */
		snprintf(lockpath, sizeof lockpath, "%s/lock2", directory);
		int f = open(lockpath, O_CREAT | O_RDWR, 0600);
		struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10, .l_start = 100};
		fcntl(f, F_SETLK, &l);
		write(P[25][1], "x", 1);
		for (;;) pause();
	}
	char c;
	read(P[25][0], &c, 1);
	snprintf(lockpath, sizeof lockpath, "%s/lock2", directory);
	ofd = open(lockpath, O_RDWR);
	pidfd = syscall(SYS_pidfd_open, pchild, 0);
	ev = eventfd(0, 0);
	evw = eventfd(0, 0);
	long v = 0xfffffffffffffffeUL - 5;
	write(evw, &v, 8);
	snprintf(lockpath, sizeof lockpath, "%s/lock", directory);
	full = open(lockpath, O_CREAT | O_RDWR, 0600);
	locked = open(lockpath, O_RDWR);
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10};
	check(fcntl(full, F_OFD_SETLK, &l) == 0, "ofd lock");
	snprintf(fifo, sizeof fifo, "%s/fifo", directory);
	mkfifo(fifo, 0600);
	struct mq_attr at = {0, 2, 256, 0};
	char reads[32], writes[32]; /* names of its own: another run of it may be under way */
	snprintf(reads, sizeof reads, "/ckpt-bm-r-%d", (int)getpid());
	snprintf(writes, sizeof writes, "/ckpt-bm-w-%d", (int)getpid());
	mq_unlink(reads); mq_unlink(writes);
	mqr = mq_open(reads, O_CREAT | O_RDWR, 0600, &at);
	mqw = mq_open(writes, O_CREAT | O_RDWR, 0600, &at);
	mq_send(mqw, "1", 1, 0); mq_send(mqw, "2", 1, 0);
	msgfull = msgget(IPC_PRIVATE, 0600);
	struct { long t; char d[1000]; } msg = {1, ""};
	while (msgsnd(msgfull, &msg, 1000, IPC_NOWAIT) == 0);
	sem = semget(IPC_PRIVATE, 2, 0600);
	pi_word = syscall(SYS_gettid);
	tfd = timerfd_create(CLOCK_MONOTONIC, 0);
	sigset_t sm; sigemptyset(&sm); sigaddset(&sm, SIGRTMIN + 8);
	sfd = signalfd(-1, &sm, 0);
	socketpair(AF_UNIX, SOCK_DGRAM, 0, s);
	int lst = socket(AF_UNIX, SOCK_STREAM, 0);
	nm.sun_family = AF_UNIX;
	snprintf(nm.sun_path, sizeof nm.sun_path, "%s/sk", directory);
	check(bind(lst, (void *)&nm, sizeof nm) == 0 && listen(lst, 0) == 0, "listen");
	int first = socket(AF_UNIX, SOCK_STREAM, 0);
	check(connect(first, (void *)&nm, sizeof nm) == 0, "first connection");
	for (long i = 0; i < N; i++) if (!skip_[i]) pthread_create(&T[i], NULL, run, (void *)i);
	await_threads_asleep();
	checkpoint();
	usleep(100000);
	kill(child, SIGKILL);
	v = 3; write(ev, &v, 8);
	read(evw, &v, 8);
	read(P[4][0], big, 8192);
	read(P[5][0], big, 8192);
	write(P[6][1], "abc", 3);
	write(P[8][1], "abcd", 4);
	l.l_type = F_UNLCK; fcntl(full, F_OFD_SETLK, &l);
	int rf = open(fifo, O_RDONLY); check(read(rf, &c, 1) == 1 && c == 'z', "fifo");
	mq_send(mqr, "mm", 2, 0);
	char b[256]; mq_receive(mqw, b, 256, NULL);
	msgrcv(msgfull, &msg, 1000, 0, 0);
	struct sembuf o = {0, 2, 0}; semop(sem, &o, 1);
	while (syscall(SYS_futex, &w2, FUTEX_WAKE_PRIVATE, 1) != 1) usleep(1000); /* not in it yet */
	check(syscall(SYS_futex, &pi_word, FUTEX_UNLOCK_PI_PRIVATE) == 0, "unlock_pi");
	struct itimerspec it = {{0, 0}, {0, 1000}}; timerfd_settime(tfd, 0, &it, NULL);
	union sigval sv = {.sival_int = 66}; sigqueue(getpid(), SIGRTMIN + 8, sv);
	sigqueue(getpid(), SIGRTMIN + 7, sv);
	send(s[1], "a", 1, 0); send(s[1], "b", 1, 0);
	check(accept(lst, NULL, NULL) >= 0, "accept");
	write(P[20][1], "hi", 2);
	write(P[21][1], "hi", 2);
	write(P[22][1], "hi", 2);
	usleep(100000);
	kill(pchild, SIGKILL);
	for (int i = 0; i < N; i++) if (!skip_[i]) pthread_join(T[i], NULL);
	check(read(P[7][0], b, 10) == 3 && read(P[9][0], b, 10) == 4, "spliced");
	mq_unlink(reads); mq_unlink(writes);
	msgctl(msgfull, IPC_RMID, NULL); semctl(sem, 0, IPC_RMID);
	pass();
}
