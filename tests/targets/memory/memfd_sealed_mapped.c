/* A memfd that was sealed against writing and then mapped for reading: the mapping can never be written. */
#define _GNU_SOURCE
#include "target_api.h"
#include <fcntl.h>
#include <sys/mman.h>

int main(int argc, char **argv)
{
	start(argc, argv);
	int fd = memfd_create("sealed", MFD_ALLOW_SEALING);
	check(fd >= 0 && ftruncate(fd, 8192) == 0 && write(fd, "sealed", 6) == 6, "memfd");
	int seals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
	check(fcntl(fd, F_ADD_SEALS, seals) == 0, "F_ADD_SEALS");
	char *shared = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0); /* since Linux 6.7 */
	if (shared == MAP_FAILED)
		skip("a sealed memfd cannot be mapped here");
	char *private = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	check(private != MAP_FAILED, "mmap");
	private[0] = 'S';

	if (checkpoint())
		private[0] = 's';

	check(memcmp(shared, "sealed", 6) == 0, "the shared mapping holds something else");
	check(memcmp(private, "Sealed", 6) == 0, "the private mapping holds something else");
	check(fcntl(fd, F_GET_SEALS) == seals, "other seals");
	check(mprotect(shared, 8192, PROT_READ | PROT_WRITE) == -1 && errno == EACCES, "it can be made writable");
	check(pwrite(fd, "x", 1, 0) == -1 && errno == EPERM, "it can be written");
	pass();
}
