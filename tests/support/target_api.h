/* The protocol of target_api.py for the targets that have to be written in C. */
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *directory;

static void publish(const char *name, const char *text)
{
	char part[512], path[512];
	snprintf(part, sizeof part, "%s/%s.%d.part", directory, name, (int)getpid());
	snprintf(path, sizeof path, "%s/%s", directory, name);
	FILE *file = fopen(part, "w");
	if (file == NULL)
		_exit(98);
	fputs(text, file);
	fclose(file);
	rename(part, path);
}

static void verdict(const char *text)
{
	publish("verdict", text);
	_exit(strncmp(text, "FAIL", 4) == 0);
}

static inline void fail(const char *reason)
{
	char text[512];
	snprintf(text, sizeof text, "FAIL: %s (errno %d)", reason, errno);
	verdict(text);
}

static inline void skip(const char *reason)
{
	char text[512];
	snprintf(text, sizeof text, "SKIP: %s", reason);
	verdict(text);
}

static inline void check(int holds, const char *what)
{
	if (!holds)
		fail(what);
}

static inline void pass(void)
{
	verdict("PASS");
}

static inline void start(int argc, char **argv)
{
	if (argc != 2)
		_exit(97);
	directory = argv[1];
}

/* Waits until the task or thread is in the state: R, S, T, Z; it must get there by itself. */
static inline void await_state(pid_t task, char state)
{
	char path[64], text[512], *end, now = 0;
	snprintf(path, sizeof path, "/proc/%d/stat", (int)task);
	for (int tries = 0; tries < 6000; tries++) {
		FILE *file = fopen(path, "r");
		check(file != NULL, "a task that is to be in a state has ended");
		text[fread(text, 1, sizeof text - 1, file)] = 0;
		fclose(file);
		end = strrchr(text, ')');
		now = end ? end[2] : 0;
		if (now == state)
			return;
		usleep(5000);
	}
	snprintf(text, sizeof text, "FAIL: task %d is in state %c, never in %c", (int)task, now, state);
	verdict(text);
}

/* Waits until every other thread of this process sleeps in a call; none of them may end meanwhile. */
static inline void await_threads_asleep(void)
{
	DIR *listing = opendir("/proc/self/task");
	struct dirent *entry;
	check(listing != NULL, "opendir");
	while ((entry = readdir(listing)) != NULL)
		if (atoi(entry->d_name) > 0 && atoi(entry->d_name) != syscall(SYS_gettid))
			await_state(atoi(entry->d_name), 'S');
	closedir(listing);
}

/* Whether there is such a file in the target's directory: what its processes tell each other with. */
static inline int published(const char *name)
{
	char path[512];
	snprintf(path, sizeof path, "%s/%s", directory, name);
	return access(path, F_OK) == 0;
}

/* Whether the harness says go; then *tampered is what checkpoint() gives. */
static inline int gone(int *tampered)
{
	char path[512], text[16] = "";
	snprintf(path, sizeof path, "%s/go", directory);
	FILE *file = fopen(path, "r");
	if (file == NULL)
		return 0;
	if (fgets(text, sizeof text, file) == NULL)
		text[0] = 0;
	fclose(file);
	*tampered = strcmp(text, "tamper") == 0;
	return 1;
}

static inline int checkpoint(void)
{
	int tampered = 0;
	char text[32];
	pid_t pid = getpid();
	snprintf(text, sizeof text, "%d", (int)pid);
	publish("ready", text);
	while (!gone(&tampered))
		usleep(20000);
	check(getpid() == pid, "the pid is another one");
	return tampered;
}
