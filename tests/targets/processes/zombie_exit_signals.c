/* Zombies whose end was told by other signals than SIGCHLD, or by none: one was handled, one waits; no signal comes twice. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { CHILDREN = 5 };
static char stacks[CHILDREN][65536];
static volatile int handled;

static void handler(int number)
{
	handled += number == SIGUSR1;
}

static int end(void *code)
{
	_exit((long)code);
}

int main(int argc, char **argv)
{
	start(argc, argv);
	const int flags[CHILDREN] = {0, SIGUSR1, CLONE_VM, CLONE_VM | SIGRTMIN, CLONE_VM | SIGUSR1};
	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
	struct timespec none = {0, 0};
	pid_t children[CHILDREN];
	siginfo_t info;
	sigset_t set;
	int status, count = 0, sum = 0;
	sigaction(SIGUSR1, &action, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (long i = 0; i < CHILDREN; i++) {
		children[i] = clone(end, stacks[i] + 65000, flags[i], (void *)(50 + i));
		check(children[i] > 0 && waitid(P_PID, children[i], &info, WEXITED | WNOWAIT | __WALL) == 0, "a zombie");
	}
	check(handled == 2, "handled before");
	checkpoint();
	check(handled == 2, "a signal that had been handled came again");
	check(sigtimedwait(&set, &info, &none) == SIGRTMIN && info.si_pid == children[3], "the signal that waits");
	check(info.si_code == CLD_EXITED && info.si_status == 53, "its siginfo");
	check(sigtimedwait(&set, &info, &none) == -1, "it waited twice");
	check(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD, "they are no children of fork");
	while (waitpid(-1, &status, __WCLONE) > 0)
		count++, sum += WEXITSTATUS(status);
	check(count == CHILDREN && sum == 50 + 51 + 52 + 53 + 54, "the zombies");
	pass();
}
