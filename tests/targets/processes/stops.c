/* Children stopped by each stop signal, with threads, seen and unseen by waitpid; one continued but not yet waited for. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

static volatile int count;

static void *counting(void *unused)
{
	for (;;) {
		count++;
		usleep(1000);
	}
	return unused;
}

static pid_t child(int threads)
{
	pid_t pid = fork();
	if (pid == 0) {
		int tampered;
		pthread_t thread;
		for (int i = 0; i < threads; i++)
			pthread_create(&thread, NULL, counting, NULL);
		while (!gone(&tampered))
			usleep(20000);
		while (!published("end")) /* its parent looks at it first */
			usleep(20000);
		_exit(7);
	}
	setpgid(pid, 0); /* stop signals of the keyboard do nothing in an orphaned group */
	return pid;
}

static char state(pid_t pid)
{
	char path[64], text[512], *end;
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	FILE *file = fopen(path, "r");
	text[fread(text, 1, sizeof text - 1, file)] = 0;
	fclose(file);
	end = strrchr(text, ')');
	return end[2];
}

int main(int argc, char **argv)
{
	start(argc, argv);
	int signals[] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU}, status;
	pid_t seen[4], unseen[4], continued = child(2), waiting = child(0);
	for (int i = 0; i < 4; i++) {
		seen[i] = child(i);
		unseen[i] = child(i);
	}
	usleep(100000);
	for (int i = 0; i < 4; i++) {
		kill(seen[i], signals[i]);
		kill(unseen[i], signals[i]);
		check(waitpid(seen[i], &status, WUNTRACED) == seen[i] && WSTOPSIG(status) == signals[i], "stop");
	}
	kill(continued, SIGSTOP);
	kill(waiting, SIGSTOP);
	check(waitpid(continued, &status, WUNTRACED) == continued, "stop");
	check(waitpid(waiting, &status, WUNTRACED) == waiting, "stop");
	kill(continued, SIGCONT);
	for (int i = 0; i < 4; i++)
		while (state(unseen[i]) != 'T')
			usleep(1000);
	checkpoint();
	check(state(waiting) == 'T', "the stopped one runs");
	for (int i = 0; i < 4; i++) {
		check(state(seen[i]) == 'T' && state(unseen[i]) == 'T', "a stopped one runs");
		check(waitpid(seen[i], &status, WUNTRACED | WNOHANG) == 0, "a stop is told twice");
		check(waitpid(unseen[i], &status, WUNTRACED | WNOHANG) == unseen[i], "a stop is not told");
		check(WIFSTOPPED(status) && WSTOPSIG(status) == signals[i], "the stop signal");
	}
	check(waitpid(continued, &status, WCONTINUED | WNOHANG) == continued && WIFCONTINUED(status), "the continuation");
	kill(waiting, SIGCONT);
	check(waitpid(waiting, &status, WCONTINUED) == waiting && WIFCONTINUED(status), "SIGCONT");
	publish("end", "");
	check(waitpid(continued, &status, 0) == continued && WEXITSTATUS(status) == 7, "the continued one");
	check(waitpid(waiting, &status, 0) == waiting && WEXITSTATUS(status) == 7, "the stopped one");
	for (int i = 0; i < 4; i++) {
		kill(seen[i], SIGCONT);
		kill(unseen[i], SIGCONT);
		check(waitpid(seen[i], &status, 0) == seen[i] && WEXITSTATUS(status) == 7, "end");
		check(waitpid(unseen[i], &status, 0) == unseen[i] && WEXITSTATUS(status) == 7, "end");
	}
	pass();
}
