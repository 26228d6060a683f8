/* Hardware breakpoints that a debugger has left behind, in the first thread and in another: they go on giving SIGTRAP. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

static volatile long watched[2], unwatched;
static volatile int traps[2];
static volatile int turn;
static __thread int which;

static void trapped(int signal)
{
	traps[which]++;
}

static int set(pid_t tid, long value, int number)
{
	return ptrace(PTRACE_POKEUSER, tid, offsetof(struct user, u_debugreg) + 8 * number, value) == 0;
}

/* Watch for writes of eight bytes; 1 when this machine cannot. */
static int watch(pid_t tid, volatile long *address, int number)
{
	pid_t debugger = fork();
	if (debugger == 0) {
		int status;
		if (ptrace(PTRACE_SEIZE, tid, 0, 0) || ptrace(PTRACE_INTERRUPT, tid, 0, 0))
			_exit(1);
		waitpid(tid, &status, __WALL);
		if (!set(tid, (long)address, number) || !set(tid, 0x90000L << 4 * number | 1 << 2 * number, 7))
			_exit(1);
		ptrace(PTRACE_DETACH, tid, 0, 0);
		_exit(0);
	}
	int status;
	return waitpid(debugger, &status, 0) != debugger || status;
}

static void *thread(void *tid)
{
	which = 1;
	*(volatile pid_t *)tid = syscall(SYS_gettid);
	while (!turn)
		usleep(5000);
	watched[0] = unwatched = 5; /* the other thread's */
	watched[1] = 6;
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	signal(SIGTRAP, trapped);
	volatile pid_t tid = 0;
	pthread_t other;
	pthread_create(&other, NULL, thread, (void *)&tid);
	while (!tid)
		usleep(1000);
	if (watch(getpid(), &watched[0], 0) || watch(tid, &watched[1], 2))
		skip("no debug registers");
	watched[0] = 1;
	if (traps[0] != 1)
		skip("they do not outlast the debugger");
	checkpoint();
	check(traps[0] == 1 && traps[1] == 0, "a trap that nobody asked for");
	turn = 1;
	pthread_join(other, NULL);
	check(traps[1] == 1, "the other thread's breakpoint");
	watched[1] = unwatched = 2;
	check(traps[0] == 1, "a breakpoint that is another thread's");
	watched[0] = 3;
	check(traps[0] == 2, "the first thread's breakpoint");
	pass();
}
