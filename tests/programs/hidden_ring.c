/* Requests whose ring nothing in /proc tells of.
 * hidden_ring FILE closed|registered|aio|waiting: a direct read of FILE by a ring that is closed and unmapped meanwhile,
 * by one that has no descriptor and lies in the program's memory, by a context of Linux AIO whose ring is unmapped;
 * or an open of a FIFO, for which a worker of the kernel waits, and the result of which is told.
 * On standard input: a line to submit it, answered by 0; another to wait for it, answered by what came. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SIZE = 1 << 18, NO_MMAP = 1 << 14, REGISTERED_FD_ONLY = 1 << 15, NO_SQARRAY = 1 << 16, REGISTERED_RING = 1 << 4 };

static char *area, *rings;
static struct io_uring_params p;

/* Whether a worker of the ring sleeps: for what it was asked for, or because it has asked for that. */
static int begun(void)
{
	int found = 0;
	struct dirent *entry;
	DIR *tasks = opendir("/proc/self/task");
	while (tasks && (entry = readdir(tasks))) {
		char name[300], text[64] = "", where[64] = "";
		snprintf(name, sizeof name, "/proc/self/task/%s/comm", entry->d_name);
		FILE *comm = fopen(name, "r");
		snprintf(name, sizeof name, "/proc/self/task/%s/wchan", entry->d_name);
		FILE *wchan = fopen(name, "r");
		if (comm && wchan && fgets(text, sizeof text, comm) && fgets(where, sizeof where, wchan))
			found |= !strncmp(text, "iou-wrk", 7) && strcmp(where, "0");
		if (comm)
			fclose(comm);
		if (wchan)
			fclose(wchan);
	}
	if (tasks)
		closedir(tasks);
	return found;
}

static int by_uring(const char *file, const char *mode)
{
	int hidden = !strcmp(mode, "registered"), waiting = !strcmp(mode, "waiting"), fd = -1;
	char *own = mmap(NULL, 2 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (hidden) {
		p.flags = NO_MMAP | REGISTERED_FD_ONLY | NO_SQARRAY;
		p.cq_off.resv2 = (uint64_t)own; /* user_addr */
		p.sq_off.resv2 = (uint64_t)own + 4096;
	}
	int ring = syscall(SYS_io_uring_setup, 1, &p);
	if (ring < 0)
		return 1;
	struct io_uring_sqe *sqe = (void *)(own + 4096);
	rings = own;
	if (!hidden) {
		rings = mmap(NULL, 4096, 3, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
		sqe = mmap(NULL, 4096, 3, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
	}
	memset(sqe, 0, sizeof *sqe);
	sqe->flags = IOSQE_ASYNC;
	if (waiting) {
		sqe->opcode = IORING_OP_OPENAT, sqe->fd = AT_FDCWD, sqe->addr = (uint64_t)file;
	} else {
		fd = open(file, O_RDONLY | O_DIRECT);
		sqe->opcode = IORING_OP_READ, sqe->fd = fd, sqe->addr = (uint64_t)area, sqe->len = SIZE;
	}
	__atomic_store_n((unsigned *)(rings + p.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 0, hidden ? REGISTERED_RING : 0, NULL, 0) != 1)
		return 1;
	for (int i = 0; i < 30000 && !begun(); i++)
		usleep(1000);
	if (!hidden && !waiting)
		munmap(rings, 4096), munmap(sqe, 4096), close(ring);
	return 0;
}

static int by_aio(const char *file)
{
	aio_context_t context = 0;
	struct iocb block = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_buf = (uint64_t)area, .aio_nbytes = SIZE}, *one = &block;
	block.aio_fildes = open(file, O_RDONLY | O_DIRECT);
	if (syscall(SYS_io_setup, 4, &context) || syscall(SYS_io_submit, context, 1, &one) != 1)
		return 1;
	return munmap((void *)context, 4096);
}

static void line(void)
{
	int letter;
	while ((letter = getchar()) != '\n' && letter != EOF)
		;
}

int main(int argc, char **argv)
{
	area = mmap(NULL, SIZE, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(area, 1, SIZE);
	puts("ready"), fflush(stdout), line();
	printf("%d\n", strcmp(argv[2], "aio") ? by_uring(argv[1], argv[2]) : by_aio(argv[1])), fflush(stdout), line();
	if (!strcmp(argv[2], "waiting")) {
		volatile unsigned *tail = (void *)(rings + p.cq_off.tail);
		for (int i = 0; i < 60000 && !*tail; i++)
			usleep(1000);
		printf("%d\n", *tail ? ((struct io_uring_cqe *)(rings + p.cq_off.cqes))->res : 0);
	} else {
		for (int i = 0; i < 60000 && *(volatile char *)(area + SIZE - 1) == 1; i++)
			usleep(1000);
		printf("%c\n", area[SIZE - 1]);
	}
	fflush(stdout), line();
}
