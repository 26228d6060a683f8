/* A stream of numbered signals between two threads and to a child: none is lost, doubled or out of order. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/time.h>

static volatile int *received, sent[2], stop;
static volatile int alarms;
static int receiver_tid;
static pid_t child;

static void got(int n, siginfo_t *info, void *u)
{
	int which = n - SIGRTMIN - 1;
	if (info->si_value.sival_int != received[which] + 1) {
		char text[100];
		snprintf(text, sizeof text, "FAIL: stream %d: %d after %d", which, info->si_value.sival_int, received[which]);
		received[2] = 1;
		publish("verdict", text);
		_exit(1);
	}
	received[which]++;
}
static void alarm_(int n) { alarms++; }
static void *receiver(void *u)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	receiver_tid = syscall(SYS_gettid);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	while (!stop) usleep(3000);
	return NULL;
}
static void *sender(void *u)
{
	while (!receiver_tid) usleep(1000);
	while (!stop) {
		siginfo_t s = {.si_signo = SIGRTMIN + 1, .si_code = SI_QUEUE};
		s.si_pid = getpid();
		s.si_value.sival_int = sent[0] + 1;
		if (syscall(SYS_rt_tgsigqueueinfo, getpid(), receiver_tid, SIGRTMIN + 1, &s) == 0) sent[0]++;
		union sigval v = {.sival_int = sent[1] + 1};
		if (sigqueue(child, SIGRTMIN + 2, v) == 0) sent[1]++;
		usleep(500);
	}
	return NULL;
}
int main(int argc, char **argv)
{
	start(argc, argv);
	received = mmap(NULL, 4096, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct sigaction a = {.sa_sigaction = got, .sa_flags = SA_SIGINFO | SA_RESTART}, al = {.sa_handler = alarm_, .sa_flags = SA_RESTART};
	sigaction(SIGRTMIN + 1, &a, NULL);
	sigaction(SIGRTMIN + 2, &a, NULL);
	sigaction(SIGALRM, &al, NULL);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	child = fork();
	if (!child) for (;;) pause();
	pthread_t r, s;
	pthread_create(&r, NULL, receiver, NULL);
	pthread_create(&s, NULL, sender, NULL);
	struct itimerval t = {{0, 1000}, {0, 1000}};
	setitimer(ITIMER_REAL, &t, NULL);
	checkpoint();
	int before = alarms;
	for (int i = 0; i < 3000 && alarms < before + 20; i++) usleep(10000);
	check(alarms >= before + 20, "no alarms any more");
	stop = 1;
	pthread_join(s, NULL);
	for (long i = 0; i < 30000 && (received[0] < sent[0] || received[1] < sent[1]); i++) usleep(1000); /* SIGALRM ends each */
	fprintf(stderr, "%d %d of %d %d\n", received[0], received[1], sent[0], sent[1]);
	check(received[0] == sent[0], "the thread's stream");
	check(received[1] == sent[1], "the child's stream");
	check(!received[2], "a stream in the child");
	pthread_join(r, NULL);
	pass();
}
