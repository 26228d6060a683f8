/* Five generations, each the child of its parent's second thread, which has a zombie, too; two first threads have ended. A
 * parent-death signal would come if a child were another thread's. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { GENERATIONS = 5 };
static int generation, ends[2];

static int live(void);

static int leaderless(void)
{
	return generation == 1 || generation == 3;
}

static void *second(void *unused)
{
	int status, tampered, good;
	siginfo_t info;
	pid_t zombie = fork(), child = 0;
	if (zombie == 0)
		_exit(30 + generation);
	check(waitid(P_PID, zombie, &info, WEXITED | WNOWAIT) == 0, "zombie");
	if (generation < GENERATIONS - 1 && (child = fork()) == 0) {
		generation++;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(live());
	}
	check(write(ends[1], "x", 1) == 1, "write");
	while (!gone(&tampered))
		usleep(20000);
	good = waitpid(zombie, &status, __WNOTHREAD) == zombie && WEXITSTATUS(status) == 30 + generation;
	if (child)
		good &= waitpid(child, &status, __WNOTHREAD) == child && WIFEXITED(status) && WEXITSTATUS(status) == 5;
	if (leaderless())
		_exit(good ? 5 : 6);
	return (void *)(long)good;
}

static int live(void)
{
	pthread_t thread;
	void *good;
	pthread_create(&thread, NULL, second, NULL);
	if (leaderless())
		syscall(SYS_exit, 0);
	pthread_join(thread, &good);
	return good ? 5 : 6;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	int status;
	char byte;
	check(pipe(ends) == 0, "pipe");
	pid_t child = fork();
	if (child == 0)
		_exit(live());
	for (int i = 0; i < GENERATIONS; i++)
		check(read(ends[0], &byte, 1) == 1, "read");
	await_state(child, 'S');
	checkpoint();
	check(waitpid(child, &status, 0) == child && WIFEXITED(status), "the first generation was killed");
	check(WEXITSTATUS(status) == 5, "a child or a zombie is not its thread's");
	pass();
}
