/* Linux AIO: a context with events that nobody has fetched yet, and one that goes on afterwards. */
#include "target_api.h"
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static int submit(aio_context_t context, int fd, int op, char *buffer, size_t size, off_t at, unsigned long data)
{
	struct iocb one = { 0 }, *list[1] = { &one };
	one.aio_data = data;
	one.aio_lio_opcode = op;
	one.aio_fildes = fd;
	one.aio_buf = (unsigned long)buffer;
	one.aio_nbytes = size;
	one.aio_offset = at;
	return syscall(SYS_io_submit, context, 1, list);
}

int main(int argc, char **argv)
{
	start(argc, argv);
	aio_context_t context = 0, second = 0;
	char path[512], buffer[4096];
	struct io_event events[100];
	if (syscall(SYS_io_setup, 50, &context) < 0)
		skip("no AIO");
	check(syscall(SYS_io_setup, 2000, &second) == 0, "io_setup");
	aio_context_t first_id = context, second_id = second;
	snprintf(path, sizeof path, "%s/file", directory);
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	memset(buffer, 'a', sizeof buffer);
	for (int n = 0; n < 115; n++) { /* of 127 events that the ring holds: what follows goes round its end */
		check(submit(context, fd, IOCB_CMD_PWRITE, buffer, 1, 0, n) == 1, "io_submit");
		check(syscall(SYS_io_getevents, context, 1, 1, events, NULL) == 1, "io_getevents");
	}
	for (int n = 0; n < 20; n++)
		check(submit(context, fd, IOCB_CMD_PWRITE, buffer, 100 + n, 100 * n, 1000 + n) == 1, "io_submit");
	check(syscall(SYS_io_getevents, context, 5, 5, events, NULL) == 5, "io_getevents");
	pid_t child = fork(); /* it has the mappings of the rings, but no contexts */
	if (child == 0)
		for (;;)
			pause();
	if (checkpoint())
		check(syscall(SYS_io_getevents, context, 1, 1, events, NULL) == 1, "io_getevents");
	check(context == first_id && second == second_id, "the ids");
	check(syscall(SYS_io_getevents, context, 15, 100, events, NULL) == 15, "the events that waited");
	for (int n = 0; n < 15; n++)
		check(events[n].data == 1005ul + n && events[n].res == 105 + n, "an event");
	for (int round = 0; round < 10; round++) {
		for (int n = 0; n < 40; n++)
			check(submit(context, fd, IOCB_CMD_PREAD, buffer, 50, 0, n) == 1, "io_submit afterwards");
		check(syscall(SYS_io_getevents, context, 40, 100, events, NULL) == 40, "the new events");
		check(events[39].data == 39 && events[39].res == 50, "a new event");
	}
	check(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child, "the child");
	check(submit(second, fd, IOCB_CMD_PREAD, buffer, 10, 0, 4) == 1, "the second context");
	check(syscall(SYS_io_getevents, second, 1, 1, events, NULL) == 1 && events[0].data == 4, "its event");
	check(syscall(SYS_io_destroy, context) == 0 && syscall(SYS_io_destroy, second) == 0, "io_destroy");
	pass();
}
