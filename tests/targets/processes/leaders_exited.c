/* A child whose first thread has ended: files, memory, a timer, a child of a thread, waiting signals; and how it ends. */
#define _GNU_SOURCE
#include "target_api.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

static int ends[2];
static pthread_t first;
static volatile char *memory;
static volatile int alarms;

static void alarmed(int number)
{
	(void)number;
	alarms++;
}

static void *other(void *argument)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 4);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGRTMIN + 4);
	prctl(PR_SET_NAME, "second");
	int tampered;
	while (!gone(&tampered))
		usleep(20000);
	sigpending(&set);
	if (!sigismember(&set, SIGRTMIN + 4))
		_exit(31);
	return argument;
}

static void *last(void *argument)
{
	(void)argument;
	pthread_t thread;
	int tampered, status;
	pthread_join(first, NULL);
	pthread_create(&thread, NULL, other, NULL);
	pid_t child = fork();
	if (child == 0) {
		while (!gone(&tampered))
			usleep(20000);
		_exit(9);
	}
	struct itimerval every = {{0, 20000}, {0, 20000}};
	setitimer(ITIMER_REAL, &every, NULL);
	memory[4096] = 7;
	if (write(ends[1], "r", 1) != 1)
		_exit(30);
	while (!gone(&tampered))
		usleep(20000);
	int before = alarms;
	for (int i = 0; i < 200 && alarms < before + 3; i++)
		usleep(10000);
	if (alarms < before + 3)
		_exit(33);
	if (memory[4096] != 7)
		_exit(32);
	memory[8192] = 8;
	if (waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 9)
		_exit(34);
	pthread_join(thread, NULL);
	if (write(ends[1], "d", 1) != 1)
		_exit(35);
	syscall(SYS_exit, 3); /* the last thread: the process ends with its status */
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	char c, comm[32];
	char path[64];
	int status;
	check(pipe(ends) == 0, "pipe");
	pid_t child = fork();
	if (child == 0) {
		static pthread_t thread;
		memory = malloc(1 << 20);
		signal(SIGALRM, alarmed);
		prctl(PR_SET_NAME, "the first");
		first = pthread_self();
		pthread_create(&thread, NULL, last, NULL);
		syscall(SYS_exit, 21); /* this thread alone */
	}
	check(read(ends[0], &c, 1) == 1 && c == 'r', "the child is ready");
	checkpoint();
	snprintf(path, sizeof path, "/proc/%d/comm", (int)child);
	FILE *file = fopen(path, "r");
	check(file && fgets(comm, sizeof comm, file) && !strcmp(comm, "the first\n"), "the name of the first thread");
	check(read(ends[0], &c, 1) == 1 && c == 'd', "the child's threads went on");
	check(waitpid(child, &status, 0) == child, "waitpid");
	check(WIFEXITED(status) && WEXITSTATUS(status) == 3, "the status of the last thread");
	pass();
}
