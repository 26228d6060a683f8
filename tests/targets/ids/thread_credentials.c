/* Threads with ids, groups, capabilities and no_new_privs of their own. */
#define _GNU_SOURCE
#include "target_api.h"
#include <grp.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define N 5
static volatile int ready, step;

static int status(char *text)
{
	char path[64], line[512];
	snprintf(path, sizeof path, "/proc/self/task/%d/status", (int)syscall(SYS_gettid));
	FILE *file = fopen(path, "r");
	text[0] = 0;
	while (fgets(line, sizeof line, file))
		if (!strncmp(line, "Uid", 3) || !strncmp(line, "Gid", 3) || !strncmp(line, "Groups", 6) ||
			!strncmp(line, "Cap", 3) || !strncmp(line, "NoNew", 5))
			strcat(text, line);
	fclose(file);
	return syscall(SYS_prctl, PR_GET_SECUREBITS, 0, 0, 0, 0);
}

static void *work(void *argument)
{
	long i = (long)argument;
	char before[4096], now[4096];
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2];
	gid_t groups[3] = {10 + i, 20, 70000};
	if (i == 1) {
		syscall(SYS_setgroups, 3, groups);
		syscall(SYS_setresgid, 5, 6, 7);
		syscall(SYS_setresuid, 1, 0, 3);
	} else if (i == 2) {
		syscall(SYS_capget, &header, data);
		data[0].effective &= ~0xff;
		data[0].inheritable = 0x3f;
		syscall(SYS_capset, &header, data);
		prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 3, 0, 0);
		prctl(PR_CAPBSET_DROP, 13, 0, 0, 0);
	} else if (i == 3) {
		prctl(PR_SET_SECUREBITS, 0x15, 0, 0, 0);
		syscall(SYS_setresuid, 1000, 1000, 1000);
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	} else if (i == 4) {
		syscall(SYS_setgroups, 0, NULL);
		syscall(SYS_setfsgid, 99);
		syscall(SYS_setfsuid, 98);
	}
	int bits = status(before);
	__sync_fetch_and_add(&ready, 1);
	while (!step)
		usleep(5000);
	int after = status(now);
	if (strcmp(before, now) || bits != after) {
		fprintf(stderr, "%ld: %#x, %#x\n%s\nnow\n%s", i, bits, after, before, now);
		fail("a thread's credentials");
	}
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t threads[N];
	for (long i = 0; i < N; i++)
		pthread_create(&threads[i], NULL, work, (void *)i);
	while (ready < N)
		usleep(1000);
	checkpoint();
	step = 1;
	for (int i = 0; i < N; i++)
		pthread_join(threads[i], NULL);
	pass();
}
