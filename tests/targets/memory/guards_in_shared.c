/* Guard pages over data in anonymous shared memory: the data is there for who takes the guards away, and for others. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sys/mman.h>
#include <sys/wait.h>

#define PAGE 4096
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103

int main(int argc, char **argv)
{
	start(argc, argv);
	char *shared = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memset(shared, 5, 16 * PAGE);
	if (madvise(shared + 3 * PAGE, 2 * PAGE, MADV_GUARD_INSTALL))
		skip("no guard pages in shared memory");
	int ends[2], status;
	check(pipe(ends) == 0, "pipe");
	checkpoint();
	check(write(ends[1], shared + 2 * PAGE, 1) == 1, "the page before");
	check(write(ends[1], shared + 3 * PAGE, 1) == -1 && errno == EFAULT, "the guard");
	check(write(ends[1], shared + 5 * PAGE, 1) == 1, "the page after");
	check(madvise(shared + 3 * PAGE, 2 * PAGE, MADV_GUARD_REMOVE) == 0, "MADV_GUARD_REMOVE");
	for (int i = 0; i < 16; i++)
		check(shared[i * PAGE] == 5, "the data");
	pid_t pid = fork();
	if (pid == 0) {
		shared[4 * PAGE] = 6;
		_exit(0);
	}
	check(waitpid(pid, &status, 0) == pid && shared[4 * PAGE] == 6, "shared with a child");
	pass();
}
