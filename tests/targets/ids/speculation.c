/* Speculation controls, and the name with odd bytes in it. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sys/prctl.h>

int main(int argc, char **argv)
{
	start(argc, argv);
	char name[17] = "", before[17] = "\xff\x80 )\n(\t\"\\x\x01";
	prctl(PR_SET_NAME, before, 0, 0, 0);
	prctl(PR_SET_SPECULATION_CTRL, 0, PR_SPEC_DISABLE, 0, 0);
	prctl(PR_SET_SPECULATION_CTRL, 1, PR_SPEC_FORCE_DISABLE, 0, 0);
	long store = prctl(PR_GET_SPECULATION_CTRL, 0, 0, 0, 0), indirect = prctl(PR_GET_SPECULATION_CTRL, 1, 0, 0, 0);
	checkpoint();
	prctl(PR_GET_NAME, name, 0, 0, 0);
	check(memcmp(name, before, strlen(before) + 1) == 0, "the name");
	check(prctl(PR_GET_SPECULATION_CTRL, 0, 0, 0, 0) == store, "store bypass");
	check(prctl(PR_GET_SPECULATION_CTRL, 1, 0, 0, 0) == indirect, "indirect branches");
	pass();
}
