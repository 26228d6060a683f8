/* argv, environ and auxv told to be elsewhere (PR_SET_MM_MAP): /proc shows the new places. */
#define _GNU_SOURCE
#include "target_api.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <linux/prctl.h>

static size_t slurp(const char *path, char *out, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t got = fd < 0 ? 0 : read(fd, out, size);
	close(fd);
	return got > 0 ? got : 0;
}

int main(int argc, char **argv)
{
	char stat[4096], before[4096], after[4096];
	start(argc, argv);
	unsigned long f[64] = { 0 };
	slurp("/proc/self/stat", stat, sizeof stat - 1);
	char *at = strrchr(stat, ')') + 2;
	strtok(at, " ");
	for (int i = 4; i < 53; i++) {
		char *word = strtok(NULL, " ");
		f[i] = word ? strtoul(word, NULL, 10) : 0;
	}
	char *area = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(area, "renamed\0by itself", 18);
	memcpy(area + 8192, "HOME=/nowhere\0A=b", 18);
	unsigned long vector[8] = { 6, 4096, 23, 1, 0, 0 };
	struct prctl_mm_map map = {
		.start_code = f[26], .end_code = f[27], .start_data = f[45], .end_data = f[46],
		.start_brk = f[47], .brk = (unsigned long)sbrk(0), .start_stack = f[28],
		.arg_start = (unsigned long)area, .arg_end = (unsigned long)area + 18,
		.env_start = (unsigned long)area + 8192, .env_end = (unsigned long)area + 8192 + 18,
		.auxv = (void *)vector, .auxv_size = sizeof vector, .exe_fd = -1,
	};
	if (prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0))
		skip("PR_SET_MM_MAP is not allowed");
	slurp("/proc/self/auxv", before, sizeof before);
	if (checkpoint())
		memcpy(area, "tampered", 8);
	size_t got = slurp("/proc/self/cmdline", after, sizeof after);
	check(got == 18 && memcmp(after, "renamed\0by itself", 18) == 0, "cmdline");
	got = slurp("/proc/self/environ", after, sizeof after);
	check(got == 18 && memcmp(after, "HOME=/nowhere\0A=b", 18) == 0, "environ");
	got = slurp("/proc/self/auxv", after, sizeof after);
	check(got >= 48 && memcmp(before, after, got) == 0, "auxv");
	pass();
}
