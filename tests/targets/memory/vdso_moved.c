/* The vdso moved away from its data, and part of the data unmapped: a program that uses neither. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sys/mman.h>

static char before[65536], after[65536];

static void special(char *out)
{
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "r");
	*out = 0;
	while (fgets(line, sizeof line, maps))
		if (strstr(line, "[vdso") || strstr(line, "[vvar"))
			strcat(out, line);
	fclose(maps);
}

int main(int argc, char **argv)
{
	unsigned long from = 0, end = 0, vvar = 0, vvar_end = 0;
	start(argc, argv);
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "r");
	while (fgets(line, sizeof line, maps)) {
		if (strstr(line, "[vdso]"))
			sscanf(line, "%lx-%lx", &from, &end);
		if (strstr(line, "[vvar_vclock]"))
			sscanf(line, "%lx-%lx", &vvar, &vvar_end);
	}
	fclose(maps);
	if (!from)
		skip("no vdso");
	char *room = mmap(0, 64 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(mremap((void *)from, end - from, end - from, 3, room + 8 * 4096) != MAP_FAILED, "mremap of the vdso");
	if (vvar)
		munmap((void *)vvar, vvar_end - vvar);
	special(before);
	if (checkpoint())
		munmap(room + 8 * 4096, end - from);
	special(after);
	check(strcmp(before, after) == 0, "vdso and vvar are where they were");
	pass();
}
