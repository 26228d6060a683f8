/* A thread that is not the first one executes the program again, over and over; the others end each time. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>

static char **arguments;
static long count;

static void *execute(void *unused)
{
	int tampered;
	char number[32], pid[32];
	usleep(2000);
	if (count > 20 && gone(&tampered)) {
		check(getpid() == atoi(arguments[3]) + tampered, "the pid is another one");
		pass();
	}
	snprintf(number, sizeof number, "%ld", count + 1);
	snprintf(pid, sizeof pid, "%d", (int)getpid());
	execl("/proc/self/exe", arguments[0], arguments[1], number, pid, NULL);
	fail("exec");
	return NULL;
}

static void *sleep_on(void *unused)
{
	pause();
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc < 2 ? argc : 2, argv);
	arguments = argv;
	count = argc > 2 ? atol(argv[2]) : 0;
	if (count == 20)
		publish("ready", "");
	if (count)
		check(getpid() == atoi(argv[3]), "the pid is another one");
	pthread_t thread;
	pthread_create(&thread, NULL, sleep_on, NULL);
	pthread_create(&thread, NULL, execute, NULL);
	sleep_on(NULL);
}
