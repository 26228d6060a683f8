/* All sixteen resource limits, soft below hard, none the same, and unlimited ones. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sys/resource.h>

int main(int argc, char **argv)
{
	start(argc, argv);
	struct rlimit before[16], now;
	for (int i = 0; i < 16; i++) {
		getrlimit(i, &now);
		if (i != RLIMIT_AS && i != RLIMIT_DATA && i != RLIMIT_STACK && i != RLIMIT_FSIZE && i != RLIMIT_CPU) {
			rlim_t hard = now.rlim_max == RLIM_INFINITY ? 5000000 + i : now.rlim_max - i;
			now.rlim_cur = hard / 2;
			if (i != RLIMIT_MEMLOCK && i != RLIMIT_NICE)
				now.rlim_max = hard;
			if (now.rlim_max < now.rlim_cur)
				now.rlim_cur = now.rlim_max;
			setrlimit(i, &now);
		}
		getrlimit(i, &before[i]);
	}
	checkpoint();
	for (int i = 0; i < 16; i++) {
		getrlimit(i, &now);
		check(now.rlim_cur == before[i].rlim_cur && now.rlim_max == before[i].rlim_max, "a limit");
	}
	pass();
}
