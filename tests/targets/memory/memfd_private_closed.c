/* A memfd that nobody has open any more, mapped privately and shared: pages not written to are the object's, always. */
#define _GNU_SOURCE
#include "target_api.h"
#include <sys/mman.h>

#define PAGE 4096
#define PAGES 64

int main(int argc, char **argv)
{
	start(argc, argv);
	int fd = memfd_create("closed", 0);
	check(fd >= 0 && ftruncate(fd, PAGES * PAGE) == 0, "memfd");
	char *own = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	char *shared = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	for (int i = 0; i < PAGES; i++)
		shared[i * PAGE] = 1;
	for (int i = 0; i < PAGES; i += 2)
		check(own[i * PAGE] == 1, "before");
	for (int i = 0; i < PAGES; i += 3)
		own[i * PAGE] = 2;
	checkpoint();
	for (int i = 0; i < PAGES; i++)
		shared[i * PAGE] = 3;
	for (int i = 0; i < PAGES; i++)
		check(own[i * PAGE] == (i % 3 ? 3 : 2), "a page of the private mapping");
	pass();
}
