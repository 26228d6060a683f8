/* Stopped children whose first thread has ended: of which the parent has heard, of which it has not, and one continued. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static volatile int count;
static pthread_t self;

static void *rest(void *unused)
{
	int tampered;
	(void)unused;
	pthread_join(self, NULL);
	prctl(PR_SET_NAME, "rest");
	while (!gone(&tampered)) {
		count++;
		usleep(5000);
	}
	while (!published("end")) /* its parent looks at it first */
		usleep(5000);
	_exit(7);
}

static pid_t child(int threads)
{
	pid_t pid = fork();
	if (pid == 0) {
		pthread_t thread;
		self = pthread_self();
		for (int i = 0; i < threads; i++)
			pthread_create(&thread, NULL, rest, NULL);
		pthread_exit(NULL);
	}
	setpgid(pid, 0);
	return pid;
}

/* The states of the process and of its threads, those that have ended left out. */
static const char *states(pid_t pid)
{
	static char found[16];
	char command[128];
	snprintf(command, sizeof command, "sed 's/.*) //' /proc/%d/task/*/stat | cut -c1 | grep -v Z | tr -d '\\n'", pid);
	FILE *out = popen(command, "r");
	found[fread(found, 1, sizeof found - 1, out)] = 0;
	pclose(out);
	return found;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	int status;
	pid_t seen = child(2), unseen = child(1), continued = child(1);
	await_state(seen, 'Z'); /* the first threads */
	await_state(unseen, 'Z');
	await_state(continued, 'Z');
	kill(seen, SIGSTOP);
	check(waitpid(seen, &status, WUNTRACED) == seen && WSTOPSIG(status) == SIGSTOP, "stop");
	kill(unseen, SIGTSTP);
	kill(continued, SIGSTOP);
	check(waitpid(continued, &status, WUNTRACED) == continued, "stop");
	kill(continued, SIGCONT);
	while (strcmp(states(unseen), "T"))
		usleep(1000);
	checkpoint();
	check(!strcmp(states(seen), "TT") && !strcmp(states(unseen), "T"), "a stopped one runs");
	check(waitpid(seen, &status, WUNTRACED | WNOHANG) == 0, "a stop is told twice");
	check(waitpid(unseen, &status, WUNTRACED | WNOHANG) == unseen, "a stop is not told");
	check(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP, "the stop signal");
	check(waitpid(continued, &status, WCONTINUED | WNOHANG) == continued && WIFCONTINUED(status), "the continuation");
	kill(seen, SIGCONT);
	kill(unseen, SIGCONT);
	check(waitpid(seen, &status, WCONTINUED) == seen && WIFCONTINUED(status), "SIGCONT");
	publish("end", "");
	check(waitpid(continued, &status, 0) == continued && WEXITSTATUS(status) == 7, "the continued one");
	check(waitpid(seen, &status, 0) == seen && WEXITSTATUS(status) == 7, "end");
	check(waitpid(unseen, &status, 0) == unseen && WEXITSTATUS(status) == 7, "end");
	pass();
}
