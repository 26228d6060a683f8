/* Signals waiting for the process and for a thread, of every origin, with their siginfo and in their order. */
#define _GNU_SOURCE
#include "target_api.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

static siginfo_t before[64], after[64];
static volatile int step;

static int drain(siginfo_t *into)
{
	sigset_t all;
	struct timespec none = {0, 0};
	int n = 0;
	sigfillset(&all);
	memset(into, 0, 64 * sizeof *into);
	while (n < 64 && sigtimedwait(&all, &into[n], &none) > 0)
		n++;
	return n;
}

static pid_t child_pid;

static int fill(pid_t tid)
{
	siginfo_t info;
	union sigval value = {.sival_ptr = (void *)0x123456789abcdef0};
	for (int i = 0; i < 5; i++) {
		value.sival_int = i;
		sigqueue(getpid(), SIGRTMIN + 3, value);
		pthread_sigqueue(pthread_self(), SIGRTMIN + 3, value);
	}
	value.sival_ptr = (void *)0x123456789abcdef0;
	sigqueue(getpid(), SIGRTMAX, value);
	sigqueue(getpid(), SIGUSR2, value);
	kill(getpid(), SIGTERM);
	syscall(SYS_tgkill, getpid(), tid, SIGHUP);
	memset(&info, 0, sizeof info);
	info.si_signo = SIGSEGV;
	info.si_code = SEGV_ACCERR;
	info.si_addr = (void *)0xdeadbeef;
	check(syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, SIGSEGV, &info) == 0, "rt_tgsigqueueinfo");
	memset(&info, 0, sizeof info);
	info.si_signo = SIGRTMIN + 7;
	info.si_code = SI_ASYNCIO;
	info.si_value = value;
	check(syscall(SYS_rt_sigqueueinfo, getpid(), SIGRTMIN + 7, &info) == 0, "rt_sigqueueinfo");
	child_pid = fork();
	if (child_pid == 0)
		_exit(77);
	check(waitid(P_PID, child_pid, &info, WEXITED | WNOWAIT) == 0, "child"); /* SIGCHLD waits, too */
	return 0;
}

static void *other(void *unused)
{
	union sigval value = {.sival_int = 99};
	siginfo_t info;
	pthread_sigqueue(pthread_self(), SIGRTMIN + 9, value);
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGWINCH);
	step = 1;
	while (step < 2)
		usleep(1000);
	sigset_t mine;
	sigemptyset(&mine);
	sigaddset(&mine, SIGRTMIN + 9);
	sigaddset(&mine, SIGWINCH);
	struct timespec none = {0, 0};
	check(sigtimedwait(&mine, &info, &none) == SIGWINCH && info.si_pid == getpid(), "SIGWINCH of the thread");
	check(sigtimedwait(&mine, &info, &none) == SIGRTMIN + 9 && info.si_value.sival_int == 99, "the thread's own");
	check(sigtimedwait(&mine, &info, &none) == -1, "one too many");
	return unused;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t thread;
	sigset_t all;
	int status;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	fill(getpid());
	int count = drain(before);
	waitpid(child_pid, &status, 0);
	fill(getpid());
	pthread_create(&thread, NULL, other, NULL);
	while (step < 1)
		usleep(1000);
	checkpoint();
	int now = drain(after);
	if (now != count) {
		for (int i = 0; i < count || i < now; i++)
			fprintf(stderr, "signal %d, is %d\n", before[i].si_signo, after[i].si_signo);
		fail("the number of signals");
	}
	for (int i = 0; i < count; i++) {
		if (before[i].si_signo == SIGCHLD) {
			check(after[i].si_pid == child_pid && after[i].si_status == 77 && after[i].si_code == CLD_EXITED, "SIGCHLD");
			continue;
		}
		if (memcmp(&before[i], &after[i], 48)) {
			fprintf(stderr, "%d: signal %d code %d, is %d code %d\n", i, before[i].si_signo, before[i].si_code,
				after[i].si_signo, after[i].si_code);
			fail("a siginfo");
		}
	}
	step = 2;
	pthread_join(thread, NULL);
	check(waitpid(child_pid, &status, 0) == child_pid && WEXITSTATUS(status) == 77, "the child");
	pass();
}
