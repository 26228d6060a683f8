/* The protocol of target_api.py for the targets that have to be written in C. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
