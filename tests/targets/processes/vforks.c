/* Parents that wait in vfork: for a child that executes a program, one that is killed, one with a stack of its own
   (clone), in a thread among others; with registers, signals, a timer and an alternate stack of their own. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

static char stack[65536], alternate[32768];
static volatile int alarms, usr1, other_turns, exec_now;

static void on_alarm(int number)
{
	(void)number;
	alarms++;
}

static void on_usr1(int number, siginfo_t *info, void *context)
{
	char here;
	(void)number;
	(void)context;
	if (info->si_value.sival_int == 55 && &here > alternate && &here < alternate + sizeof alternate)
		usr1++;
}

static void wait_for_go(void)
{
	int tampered;
	while (!gone(&tampered))
		usleep(20000);
}

/* vfork by hand: what the registers held stays in them. */
static pid_t registers_over_vfork(int *bad)
{
	long pid, wrong = 0;
	__asm__ volatile(
		"mov $0x1111, %%rbx\n mov $0x2222, %%r12\n mov $0x3333, %%r13\n mov $0x4444, %%r14\n mov $0x5555, %%r15\n"
		"mov $0x6666, %%r9\n mov $0x7777, %%rdx\n"
		"mov $58, %%eax\n syscall\n"
		"cmp $0x1111, %%rbx\n jne 1f\n cmp $0x2222, %%r12\n jne 1f\n cmp $0x3333, %%r13\n jne 1f\n"
		"cmp $0x4444, %%r14\n jne 1f\n cmp $0x5555, %%r15\n jne 1f\n cmp $0x6666, %%r9\n jne 1f\n"
		"cmp $0x7777, %%rdx\n je 2f\n 1: mov $1, %%esi\n 2:\n"
		: "=a"(pid), "+S"(wrong)
		:: "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
	*bad = wrong;
	return pid;
}

static int executes(void *unused)
{
	wait_for_go();
	while (unused && other_turns <= 10) /* the other thread goes on while the parent waits */
		usleep(1000);
	execl("/bin/sh", "sh", "-c", "exit 6", NULL);
	_exit(99);
}

static int plain(void)
{
	struct sigaction action = {.sa_sigaction = on_usr1, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	stack_t own = {.ss_sp = alternate, .ss_size = sizeof alternate};
	struct itimerval once = {{0, 0}, {0, 300000}};
	union sigval value = {.sival_int = 55};
	sigset_t set;
	sigaltstack(&own, NULL);
	sigaction(SIGUSR1, &action, NULL);
	signal(SIGALRM, on_alarm);
	prctl(PR_SET_NAME, "waits");
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigqueue(getpid(), SIGUSR1, value);
	setitimer(ITIMER_REAL, &once, NULL);
	volatile int shared = 0;
	int bad, status;
	pid_t child = registers_over_vfork(&bad);
	if (child == 0) {
		usleep(500000);
		wait_for_go();
		shared = 7;
		_exit(4);
	}
	for (int i = 0; i < 3000 && !alarms; i++) /* the time may be up a little later than the child's */
		usleep(10000);
	if (bad || shared != 7 || alarms != 1 || usr1)
		return 20 + bad + 2 * (shared != 7) + 4 * (alarms != 1) + 8 * !!usr1;
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	if (usr1 != 1)
		return 40;
	sigaltstack(NULL, &own);
	if (own.ss_sp != alternate || waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 4)
		return 41;
	return 8;
}

static int killed(void)
{
	int status;
	pid_t child = vfork();
	if (child == 0) {
		wait_for_go();
		usleep(100000);
		kill(getpid(), SIGKILL);
	}
	return waitpid(child, &status, 0) == child && WTERMSIG(status) == SIGKILL ? 8 : 9;
}

static int clone_for(void *threads)
{
	int status;
	pid_t child = clone(executes, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, threads);
	int tampered;
	if (!gone(&tampered))
		return 10; /* it came back too early */
	return waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 6 ? 8 : 11;
}

static int cloned(void)
{
	return clone_for(NULL);
}

static void *counts(void *unused)
{
	int tampered;
	while (!gone(&tampered) || other_turns <= 10) {
		other_turns++;
		usleep(1000);
	}
	return unused;
}

static int threaded(void)
{
	pthread_t thread;
	pthread_create(&thread, NULL, counts, NULL);
	int result = clone_for(&thread);
	pthread_join(thread, NULL);
	return result == 8 && other_turns > 10 ? 8 : 12;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	int (*kinds[])(void) = {plain, killed, cloned, threaded}, status;
	pid_t parents[4];
	for (int i = 0; i < 4; i++)
		if ((parents[i] = fork()) == 0)
			_exit(kinds[i]());
	for (int i = 0; i < 4; i++)
		await_state(parents[i], 'D'); /* in vfork */
	checkpoint();
	for (int i = 0; i < 4; i++) {
		check(waitpid(parents[i], &status, 0) == parents[i], "waitpid");
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 8) {
			fprintf(stderr, "kind %d: %x\n", i, status);
			fail("a parent that waited in vfork");
		}
	}
	pass();
}
