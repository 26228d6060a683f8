/* Memory of memfds mapped from descriptors that were open for reading alone, or after F_SEAL_FUTURE_WRITE: such a
 * mapping can never be made writable, another of the same object can. */
#define _GNU_SOURCE
#include "target_api.h"
#include <fcntl.h>
#include <sys/mman.h>

int main(int argc, char **argv)
{
	start(argc, argv);
	int fd = memfd_create("half", MFD_ALLOW_SEALING), sealed = memfd_create("sealed", MFD_ALLOW_SEALING);
	check(ftruncate(fd, 3 * 4096) == 0 && ftruncate(sealed, 4096) == 0, "memfd_create");
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int reading = open(path, O_RDONLY);
	char *shared = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	char *only = mmap(NULL, 3 * 4096, PROT_READ, MAP_SHARED, reading, 0);
	char *writer = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, sealed, 0);
	check(fcntl(sealed, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0, "F_SEAL_FUTURE_WRITE");
	char *future = mmap(NULL, 4096, PROT_READ, MAP_SHARED, sealed, 0);
	check(only != MAP_FAILED && shared != MAP_FAILED && future != MAP_FAILED, "mmap");
	close(reading);
	strcpy(writer, "before");

	if (checkpoint())
		only = shared;

	check(mprotect(only, 4096, PROT_READ | PROT_WRITE) == -1 && errno == EACCES, "it can be made writable");
	check(mprotect(future, 4096, PROT_READ | PROT_WRITE) == -1 && errno == EACCES, "the sealed one can be written");
	check(mprotect(shared, 4096, PROT_READ | PROT_WRITE) == 0, "the other can no longer be made writable");
	strcpy(shared, "seen");
	check(strcmp(only, "seen") == 0 && strcmp(future, "before") == 0, "not the same memory");
	strcpy(writer, "after");
	check(strcmp(future, "after") == 0, "not the same memory behind the seal");
	pass();
}
