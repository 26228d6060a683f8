/* A child in a cgroup that is frozen: it can be stopped, but runs no call for anybody until it is thawed. */
#define _GNU_SOURCE
#include "target_api.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static const char *places[] = {"/sys/fs/cgroup/unified", "/sys/fs/cgroup", "/sys/fs/cgroup/freezer"};
static char made[128];

static int put(const char *file, const char *text)
{
	char path[200];
	snprintf(path, sizeof path, "%s/%s", made, file);
	int fd = open(path, O_WRONLY), written = fd >= 0 && write(fd, text, strlen(text)) > 0;
	close(fd);
	return written;
}

/* Whether the file of the cgroup holds the text. */
static int says(const char *file, const char *wanted)
{
	char path[200], text[512] = "";
	snprintf(path, sizeof path, "%s/%s", made, file);
	int fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof text - 1) < 0)
		text[0] = 0;
	close(fd);
	return strstr(text, wanted) != NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	int status, tampered, version = 0;
	char text[16];
	pid_t child = fork();
	if (child == 0) {
		while (!gone(&tampered))
			usleep(10000);
		_exit(5);
	}
	snprintf(text, sizeof text, "%d", (int)child);
	for (unsigned i = 0; !version && i < sizeof places / sizeof *places; i++) {
		snprintf(made, sizeof made, "%s/ckpt-target-%d", places[i], (int)getpid());
		if (mkdir(made, 0755))
			continue;
		if (put("cgroup.procs", text))
			version = put("cgroup.freeze", "1") ? 2 : put("freezer.state", "FROZEN") ? 1 : 0;
		if (!version)
			rmdir(made);
	}
	if (!version) {
		kill(child, 9);
		skip("no cgroup may be frozen");
	}
	for (int tries = 0; !(version == 2 ? says("cgroup.events", "frozen 1") : says("freezer.state", "FROZEN")); tries++) {
		check(tries < 3000, "it does not freeze");
		usleep(10000);
	}
	checkpoint();
	check(version == 2 ? put("cgroup.freeze", "0") : put("freezer.state", "THAWED"), "thaw");
	check(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5, "the child");
	for (int tries = 0; rmdir(made) && errno == EBUSY && tries < 1000; tries++)
		usleep(10000);
	pass();
}
