/* Threads wait in calls, and their seccomp filters kill for restart_syscall, or, put on later by another thread (TSYNC), for
   the very call: a freeze is none of their calls. */
#define _GNU_SOURCE
#include "target_api.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>

#define WAITS 60

static volatile int begun, ended, accepted;
static volatile pid_t server_tid;
static int listener;

static void forbid(int nr, int flags)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {4, code};
	check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program))
		skip("no seccomp filters");
}

static void wake(int number)
{
	(void)number;
}

static void *wait_long(void *which)
{
	struct timespec time = {WAITS, 0};
	int word = 0;
	forbid(SYS_restart_syscall, 0);
	__sync_fetch_and_add(&begun, 1);
	if (which == (void *)0)
		nanosleep(&time, NULL);
	else if (which == (void *)1)
		poll(NULL, 0, WAITS * 1000);
	else
		syscall(SYS_futex, &word, 0, 0, &time, NULL, 0);
	ended++;
	return NULL;
}

static void *wait_for_client(void *unused)
{
	server_tid = syscall(SYS_gettid);
	__sync_fetch_and_add(&begun, 1);
	int got = accept(listener, NULL, NULL);
	accepted = got >= 0 || errno == EINTR ? 1 : -errno;
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t threads[3], server;
	struct timespec from, to;
	start(argc, argv);
	signal(SIGUSR1, wake);
	clock_gettime(CLOCK_MONOTONIC, &from);
	struct sockaddr_un name = {AF_UNIX};
	socklen_t size = sizeof name;
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	check(bind(listener, (void *)&name, sizeof name.sun_family) == 0 && listen(listener, 1) == 0, "listen");
	pthread_create(&server, NULL, wait_for_client, NULL);
	while (begun < 1)
		usleep(1000);
	await_state(server_tid, 'S'); /* in accept, before that is forbidden */
	forbid(SYS_accept, SECCOMP_FILTER_FLAG_TSYNC);
	for (long i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, wait_long, (void *)i);
	while (begun < 4)
		usleep(1000);
	usleep(100000);
	if (checkpoint())
		pthread_kill(threads[0], SIGUSR1);
	usleep(100000);
	clock_gettime(CLOCK_MONOTONIC, &to);
	check(ended == 0 || to.tv_sec - from.tv_sec >= WAITS, "a wait has ended");
	getsockname(listener, (void *)&name, &size);
	int client = socket(AF_UNIX, SOCK_STREAM, 0);
	check(connect(client, (void *)&name, size) == 0, "connect");
	pthread_join(server, NULL);
	check(accepted == 1, "accept");
	pass();
}
