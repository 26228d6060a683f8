/* UTS namespaces of the tree's own: of a child and its children, of one thread, entered by another, left by the root. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <sched.h>
#include <sys/utsname.h>
#include <sys/wait.h>

static volatile int told[2], ending;
static char found[2][160];

static void names(char *text)
{
	struct utsname uts;
	uname(&uts);
	snprintf(text, 160, "%.70s %.70s", uts.nodename, uts.domainname);
}

static void *thread(void *argument)
{
	long which = (long)argument;
	if (which && (unshare(CLONE_NEWUTS) || sethostname("of-a-thread", 11)))
		fail("unshare in a thread");
	told[which] = 1;
	while (!ending)
		usleep(5000);
	names(found[which]);
	return NULL;
}

static void child(int ready)
{
	int tampered, status;
	char text[160], before[160];
	if (unshare(CLONE_NEWUTS) || sethostname("", 0) || setdomainname("child.example", 13))
		_exit(2);
	pid_t inner = fork();
	if (inner == 0 && (unshare(CLONE_NEWUTS) || sethostname("inner", 5)))
		_exit(3);
	check(write(ready, "x", 1) == 1, "write");
	names(before);
	while (!gone(&tampered))
		usleep(20000);
	names(text);
	if (strcmp(text, before) || strcmp(text, inner ? " child.example" : "inner child.example"))
		_exit(4);
	if (inner == 0)
		_exit(sethostname("other", 5) ? 5 : 0);
	_exit(waitpid(inner, &status, 0) == inner && status == 0 ? 0 : 6);
}

int main(int argc, char **argv)
{
	start(argc, argv);
	int ends[2], status;
	char bytes[2], text[160];
	if (unshare(CLONE_NEWUTS))
		skip("no UTS namespaces");
	check(sethostname("root-of-the-tree", 16) == 0 && setdomainname("(none)", 6) == 0, "names");
	check(pipe(ends) == 0, "pipe");
	pid_t pid = fork();
	if (pid == 0)
		child(ends[1]);
	check(read(ends[0], bytes, 1) == 1 && read(ends[0], bytes, 1) == 1, "read");
	pthread_t threads[2];
	for (long i = 0; i < 2; i++) {
		pthread_create(&threads[i], NULL, thread, (void *)i);
		while (!told[i])
			usleep(1000);
	}
	checkpoint();
	names(text);
	check(strcmp(text, "root-of-the-tree (none)") == 0, text);
	check(sethostname("changed", 7) == 0, "sethostname");
	ending = 1;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	check(strcmp(found[0], "changed (none)") == 0, found[0]);
	check(strcmp(found[1], "of-a-thread (none)") == 0, found[1]);
	check(waitpid(pid, &status, 0) == pid && status == 0, "the child");
	pass();
}
