/* As many mappings as vm.max_map_count allows: a restore would need some more while it builds. */
#include <sys/mman.h>

#include "target_api.h"

#define PAGE 4096L

int main(int argc, char **argv)
{
	long most = 0;
	start(argc, argv);
	FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
	check(file != NULL && fscanf(file, "%ld", &most) == 1, "max_map_count");
	if (most > 200000)
		skip("vm.max_map_count is too large to be used up");
	char *area = mmap(NULL, 2 * most * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	check(area != MAP_FAILED, "mmap");
	for (long i = 0; i < most && !mprotect(area + (2 * i + 1) * PAGE, PAGE, PROT_READ | PROT_WRITE); i++)
		;
	area[PAGE] = 7;
	int tampered = checkpoint();
	if (tampered)
		area[PAGE] = 8;
	check(area[PAGE] == 7, "a page is another");
	pass();
}
