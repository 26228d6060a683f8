/* slow_write PID ADDRESS: process_vm_writev of two pages, of which the second comes when a byte of input does. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char *pages;
static char second[4096] __attribute__((aligned(4096)));

static void *bring(void *userfaultfd)
{
	char message[32], line;
	int fd = *(int *)userfaultfd;
	if (read(fd, message, sizeof message) != sizeof message) /* the first page is written, both are pinned */
		_exit(3);
	if (write(1, "\n", 1) != 1 || read(0, &line, 1) != 1)
		_exit(3);
	struct uffdio_copy copy = {.dst = (unsigned long)pages + 4096, .src = (unsigned long)second, .len = 4096};
	ioctl(fd, UFFDIO_COPY, &copy);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	struct uffdio_api api = {.api = UFFD_API};
	pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_register range = {.range = {(unsigned long)pages + 4096, 4096}, .mode = UFFDIO_REGISTER_MODE_MISSING};
	if (argc != 3 || fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &range))
		return 77;
	memset(pages, 'S', 4096);
	memset(second, 'S', 4096);
	pthread_create(&thread, NULL, bring, &fd);
	struct iovec here = {pages, 8192}, there = {(void *)strtoul(argv[2], NULL, 0), 8192};
	if (process_vm_writev(atoi(argv[1]), &here, 1, &there, 1, 0) != 8192)
		return 2;
	return 0;
}
