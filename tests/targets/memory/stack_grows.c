/* A stack that was deep, and grows deeper than ever afterwards; an alternate one below a guard gap. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sys/mman.h>
#include <sys/resource.h>

static int descend(int depth, int leaf)
{
	volatile char room[16384];
	memset((char *)room, depth & 0x7f, sizeof room);
	if (depth == 0) {
		if (leaf && checkpoint())
			return -1000;
	} else if (descend(depth - 1, leaf) < 0)
		return -1;
	for (size_t i = 0; i < sizeof room; i += 512)
		if (room[i] != (depth & 0x7f))
			return -1;
	return 0;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	char *low = mmap(NULL, 64 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(munmap(low, 64 << 20) == 0, "munmap");
	char *down = mmap(low + (32 << 20), 4096, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
	check(down != MAP_FAILED, "MAP_GROWSDOWN");
	for (int i = 0; i < 8; i++)
		down[-4096 * i] = i;
	check(descend(150, 0) == 0, "deep before");
	check(descend(100, 1) == 0, "every frame is what it was");
	check(descend(400, 0) == 0, "deeper than ever");
	for (int i = 0; i < 8; i++)
		check(down[-4096 * i] == i, "what has grown");
	for (int i = 8; i < 64; i++)
		down[-4096 * i] = i;
	pass();
}
