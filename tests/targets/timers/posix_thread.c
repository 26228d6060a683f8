/* SIGEV_THREAD: the library's own thread goes on calling back. */
#define _GNU_SOURCE
#include "target_api.h"
#include <signal.h>
#include <time.h>

static volatile int calls;

static void call(union sigval value)
{
	calls += value.sival_int;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = call};
	struct itimerspec every = {{0, 10000000}, {0, 10000000}};
	timer_t timer;
	event.sigev_value.sival_int = 3;
	check(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0, "timer_create");
	check(timer_settime(timer, 0, &every, NULL) == 0, "timer_settime");
	while (calls < 9)
		usleep(1000);
	checkpoint();
	int before = calls;
	for (int i = 0; i < 1000 && calls < before + 30; i++)
		usleep(10000);
	check(calls >= before + 30, "no more calls");
	check(timer_delete(timer) == 0, "timer_delete");
	pass();
}
