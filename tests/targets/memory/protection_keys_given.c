/* Which protection keys were given and taken back, with mappings and without; the kernel's own for PROT_EXEC alone. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sys/mman.h>
#include <sys/wait.h>

static int key_of(void *address)
{
	FILE *file = fopen("/proc/self/smaps", "r");
	char line[512];
	int inside = 0, key = -1;
	unsigned long start, end;
	while (fgets(line, sizeof line, file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start <= (unsigned long)address && (unsigned long)address < end;
		else if (inside && sscanf(line, "ProtectionKey: %d", &key) == 1)
			break;
	}
	fclose(file);
	return key;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	int first = pkey_alloc(0, 0), back = pkey_alloc(0, 0);
	if (first < 0 || back < 0)
		skip("no protection keys");
	char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(code, "\xb8\x07\x00\x00\x00\xc3", 6); /* return 7 */
	mprotect(code, 4096, PROT_EXEC);
	int executing = key_of(code), denied = pkey_alloc(0, PKEY_DISABLE_ACCESS), freed = pkey_alloc(0, 0);
	char *area = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	strcpy(area, "plain");
	strcpy(area + 4096, "denied");
	strcpy(area + 3 * 4096, "read");
	check(pkey_mprotect(area + 4096, 4096, PROT_READ | PROT_WRITE, denied) == 0, "pkey_mprotect");
	check(pkey_mprotect(area + 2 * 4096, 4096, PROT_READ | PROT_WRITE, freed) == 0, "pkey_mprotect");
	check(pkey_mprotect(area + 3 * 4096, 4096, PROT_READ, first) == 0, "pkey_mprotect");
	pkey_free(back);
	pkey_free(freed);
	pid_t child = fork(); /* pages that both have: it is cloned with its parent's keys */
	if (child == 0)
		pkey_free(first);

	int tampered = 0;
	if (child)
		tampered = checkpoint();
	else
		while (!gone(&tampered))
			usleep(20000);
	if (tampered && child)
		pkey_free(first);

	check(key_of(area) == 0 && key_of(area + 4096) == denied && key_of(area + 2 * 4096) == freed, "other keys");
	check(key_of(area + 3 * 4096) == first && key_of(code) == executing, "other keys");
	check(pkey_get(denied) == PKEY_DISABLE_ACCESS && pkey_get(first) == 0, "other rights");
	check(strcmp(area, "plain") == 0 && strcmp(area + 3 * 4096, "read") == 0, "other bytes");
	check(((int (*)(void))code)() == 7, "other code");
	errno = 0;
	check(pkey_mprotect(area, 4096, PROT_READ | PROT_WRITE, executing) == -1, "the kernel's key was given");
	if (child == 0) {
		int again = pkey_alloc(0, 0);
		_exit(again != first);
	}
	check(pkey_alloc(0, 0) == back && pkey_alloc(0, 0) == freed, "other keys are free");
	int next = pkey_alloc(0, 0);
	check(next != first && next != denied && next != executing, "a key was given twice");
	pkey_set(denied, 0);
	check(strcmp(area + 4096, "denied") == 0, "other bytes behind the key");
	int status;
	waitpid(child, &status, 0);
	check(status == 0, "the child's keys are others");
	pass();
}
