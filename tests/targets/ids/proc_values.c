/* oom_score_adj, coredump_filter, personality, autogroup, and the arguments of the process changed in place. */
#define _GNU_SOURCE
#include "target_api.h"
#include <fcntl.h>
#include <sys/personality.h>
#include <sys/prctl.h>

static void put(const char *name, const char *text)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/self/%s", name);
	int fd = open(path, O_WRONLY);
	if (fd >= 0 && write(fd, text, strlen(text)) < 0)
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
	close(fd);
}

static char *get(const char *name)
{
	static char kept[8][256];
	static int next;
	char path[64], *text = kept[next++ % 8];
	snprintf(path, sizeof path, "/proc/self/%s", name);
	FILE *file = fopen(path, "r");
	memset(text, 0, 256);
	if (file) {
		if (fread(text, 1, 255, file) == 0)
			text[0] = 0;
		fclose(file);
	}
	return text;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	const char *names[] = {"oom_score_adj", "coredump_filter", "personality", "cmdline", "comm"};
	char *before[5];
	put("oom_score_adj", "321");
	put("coredump_filter", "0x7f");
	personality(ADDR_NO_RANDOMIZE | READ_IMPLIES_EXEC | STICKY_TIMEOUTS | UNAME26);
	memset(argv[0], 'q', strlen(argv[0]));
	for (int i = 0; i < 5; i++)
		before[i] = get(names[i]);
	checkpoint();
	for (int i = 0; i < 5; i++)
		if (memcmp(before[i], get(names[i]), 255)) {
			fprintf(stderr, "%s was %s\n", names[i], before[i]);
			fail("a value in /proc");
		}
	check(personality(0xffffffff) == (ADDR_NO_RANDOMIZE | READ_IMPLIES_EXEC | STICKY_TIMEOUTS | UNAME26), "personality");
	pass();
}
