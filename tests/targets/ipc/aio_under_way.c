/* Linux AIO: direct reads that are always under way; each is to complete once, with what is in the file. */
#define _GNU_SOURCE
#include "target_api.h"
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <sys/syscall.h>

enum { DEPTH = 32, SIZE = 256 << 10 };

static aio_context_t context;
static char *area;
static int fd;
static volatile int stop, wrong, fetched;
static unsigned long submitted;

static void submit(int slot)
{
	struct iocb one = { 0 }, *list[1] = { &one };
	one.aio_data = slot;
	one.aio_lio_opcode = IOCB_CMD_PREAD;
	one.aio_fildes = fd;
	one.aio_buf = (unsigned long)area + (unsigned long)slot * SIZE;
	one.aio_nbytes = SIZE;
	one.aio_offset = (long)slot * SIZE;
	memset(area + (long)slot * SIZE, 0, SIZE);
	check(syscall(SYS_io_submit, context, 1, list) == 1, "io_submit");
	submitted++;
}

static int whole(int slot)
{
	for (long at = 0; at < SIZE; at += 512)
		if (area[(long)slot * SIZE + at] != slot + 1)
			return 0;
	return 1;
}

static void *work(void *unused)
{
	unsigned long done = 0;
	struct io_event events[DEPTH];
	(void)unused;
	for (int slot = 0; slot < DEPTH; slot++)
		submit(slot);
	while (done < submitted) {
		struct timespec limit = { 50, 0 };
		int count = syscall(SYS_io_getevents, context, 1, DEPTH, events, &limit);
		if (count == -1 && errno == EINTR)
			continue;
		check(count > 0, "an event is missing");
		for (int at = 0; at < count; at++) {
			int slot = events[at].data;
			if (events[at].res != SIZE || !whole(slot))
				wrong++;
			done++;
			fetched++;
			if (!stop)
				submit(slot);
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	char path[512];
	pthread_t thread;
	if (syscall(SYS_io_setup, DEPTH, &context) < 0)
		skip("no AIO");
	check(posix_memalign((void **)&area, 4096, (long)DEPTH * SIZE) == 0, "memory");
	snprintf(path, sizeof path, "%s/file", directory);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	for (int slot = 0; slot < DEPTH; slot++) {
		memset(area, slot + 1, SIZE);
		check(write(fd, area, SIZE) == SIZE, "write");
	}
	check(fsync(fd) == 0, "fsync");
	close(fd);
	fd = open(path, O_RDONLY | O_DIRECT);
	if (fd < 0)
		skip("no O_DIRECT here");
	check(pthread_create(&thread, NULL, work, NULL) == 0, "thread");
	while (fetched < 10)
		usleep(1000);
	while (checkpoint())
		;
	int before = fetched;
	for (int turn = 0; turn < 40000 && fetched == before; turn++)
		usleep(1000);
	check(fetched > before, "the reads go on");
	stop = 1;
	check(pthread_join(thread, NULL) == 0, "join");
	check(wrong == 0, "what was read");
	pass();
}
