/* Timed waits of children that a stop signal interrupted long before the dump: each ends when it was to, 8 s on. */
#define _GNU_SOURCE
#include "target_api.h"
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

enum { SECONDS = 8, CALLS = 5 };
static const char *names[] = {"nanosleep without rest", "nanosleep", "clock_nanosleep", "poll", "futex"};
static unsigned word;

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static int wait_in(int call)
{
	struct timespec time = {SECONDS, 0}, rest;
	if (call == 0)
		return syscall(SYS_nanosleep, &time, NULL) == 0;
	if (call == 1)
		return nanosleep(&time, &rest) == 0;
	if (call == 2)
		return clock_nanosleep(CLOCK_BOOTTIME, 0, &time, NULL) == 0;
	if (call == 3)
		return poll(NULL, 0, SECONDS * 1000) == 0;
	return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &time, NULL, 0) == -1 && errno == ETIMEDOUT;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pid_t children[CALLS];
	int ends[CALLS][2], status, tampered;
	char text[32];
	double began = now(), outside = 0, last, went, ended, due;
	for (int call = 0; call < CALLS; call++) {
		check(pipe(ends[call]) == 0, "pipe");
		if ((children[call] = fork()) == 0) {
			int good = wait_in(call);
			ended = now();
			_exit(write(ends[call][1], &ended, sizeof ended) == sizeof ended && good ? 5 : 6);
		}
	}
	usleep(3000000); /* the full time again would be so much more */
	for (int call = 0; call < CALLS; call++) {
		kill(children[call], SIGSTOP);
		check(waitpid(children[call], &status, WUNTRACED) == children[call] && WIFSTOPPED(status), "stopped");
	}
	snprintf(text, sizeof text, "%d", (int)getpid());
	last = now();
	publish("ready", text);
	for (int left = CALLS, on = 0; left;) {
		usleep(5000);
		double passed = now() - last;
		if (passed > 0.1) /* frozen, or not there at all */
			outside += passed;
		last += passed;
		if (!on && gone(&tampered)) {
			on = 1;
			went = now();
			for (int call = 0; call < CALLS; call++)
				kill(children[call], SIGCONT);
		}
		left = 0;
		for (int call = 0; call < CALLS; call++)
			left += poll(&(struct pollfd){ends[call][0], POLLIN, 0}, 1, 0) != 1;
	}
	due = SECONDS + outside > went - began ? SECONDS + outside : went - began; /* no sooner than it was let go on */
	for (int call = 0; call < CALLS; call++) {
		check(read(ends[call][0], &ended, sizeof ended) == sizeof ended, "read");
		fprintf(stderr, "%s: %.3f s, of which %.3f outside\n", names[call], ended - began, outside);
		check(ended - began >= SECONDS - 0.001, "too early");
		check(ended - began < due + 2.5, names[call]);
		check(waitpid(children[call], &status, 0) == children[call] && WEXITSTATUS(status) == 5, names[call]);
	}
	pass();
}
