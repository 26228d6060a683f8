/* A thread in another cgroup than its process: of version 1 by its file `tasks`, of version 2 in a threaded one. */
#define _GNU_SOURCE
#include "target_api.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static const char *places[] = {"/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"};
static char made[128], inner[160], file[200], name[64];
static volatile int step, good;

static int put(const char *directory, const char *file, const char *text)
{
	char path[300];
	snprintf(path, sizeof path, "%s/%s", directory, file);
	int fd = open(path, O_WRONLY), written = fd >= 0 && write(fd, text, strlen(text)) > 0;
	close(fd);
	return written;
}

static int inside(void)
{
	static char text[8192];
	int fd = open("/proc/thread-self/cgroup", O_RDONLY);
	long size = read(fd, text, sizeof text - 1);
	close(fd);
	text[size > 0 ? size : 0] = 0;
	return strstr(text, name) != NULL;
}

static void *thread(void *unused)
{
	char tid[16];
	snprintf(tid, sizeof tid, "%ld", syscall(SYS_gettid));
	good = put(inner, file, tid) && inside();
	step = 1;
	while (step < 2)
		usleep(1000);
	good = inside();
	return unused;
}

static void clear(void)
{
	/* A thread that was joined is in it for some moments more. */
	for (int tries = 0; strcmp(inner, made) && rmdir(inner) && errno == EBUSY && tries < 1000; tries++)
		usleep(10000);
	for (int tries = 0; rmdir(made) && errno == EBUSY && tries < 1000; tries++)
		usleep(10000);
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t other;
	char pid[16];
	for (unsigned i = 0; !good && i < sizeof places / sizeof *places; i++) {
		snprintf(made, sizeof made, "%s/ckpt-target-%d", places[i], (int)getpid());
		snprintf(pid, sizeof pid, "%d", (int)getpid());
		if (mkdir(made, 0755))
			continue;
		strcpy(inner, made);
		snprintf(name, sizeof name, "/ckpt-target-%d", (int)getpid());
		strcpy(file, "tasks");
		if (i >= 2) { /* version 2: a domain with a threaded child */
			snprintf(inner, sizeof inner, "%s/threaded", made);
			strcat(name, "/threaded");
			strcpy(file, "cgroup.threads");
			if (mkdir(inner, 0755) || !put(inner, "cgroup.type", "threaded") || !put(made, "cgroup.procs", pid)) {
				clear();
				continue;
			}
		}
		step = 0;
		pthread_create(&other, NULL, thread, NULL);
		while (!step)
			usleep(1000);
		if (!good) {
			step = 2;
			pthread_join(other, NULL);
			clear();
		}
	}
	if (!good)
		skip("no cgroup may be made");
	checkpoint();
	int first = inside();
	step = 2;
	pthread_join(other, NULL);
	if (strcmp(inner, made))
		put(places[2], "cgroup.procs", pid);
	clear();
	check(!first, "the first thread is in the cgroup of the other");
	check(good, "the thread is not in its cgroup");
	pass();
}
