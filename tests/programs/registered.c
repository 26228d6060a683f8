/* A buffer registered with io_uring, into which the kernel reads a file past the page tables.
 * registered FILE own|child: who submits the reads; a child's ring is mapped by it alone.
 * On standard input: one letter to read 64 pages of it, a dot to close the ring; each is answered by a line. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define SIZE (64 * 4096)

static struct io_uring_params p;
static char *sq, *cq;
static struct io_uring_sqe *sqe;

static char *ring_mmap(int ring, size_t size, off_t what) { return mmap(0, size, 3, MAP_SHARED | MAP_POPULATE, ring, what); }

static int read_fixed(int ring, int fd, char *buffer) {
    unsigned *tail = (unsigned *)(sq + p.sq_off.tail), *head = (unsigned *)(cq + p.cq_off.head);
    memset(sqe, 0, sizeof *sqe);
    sqe->opcode = IORING_OP_READ_FIXED, sqe->fd = fd, sqe->addr = (unsigned long)buffer, sqe->len = SIZE;
    *(unsigned *)(sq + p.sq_off.array) = 0;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, 0, 0);
    int got = ((struct io_uring_cqe *)(cq + p.cq_off.cqes))[*head % p.cq_entries].res;
    return *head += 1, got;
}

int main(int argc, char **argv) {
    static char bytes[SIZE];
    char *buffer = mmap(0, SIZE, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), letter;
    memset(buffer, 1, SIZE);
    int fd = open(argv[1], O_RDWR | O_CREAT, 0600), ring = syscall(SYS_io_uring_setup, 1, &p);
    struct iovec all = {buffer, SIZE};
    if (ring < 0 || syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &all, 1))
        return puts("no io_uring"), 0;
    if (!strcmp(argv[2], "child") && fork()) /* not vfork: the memory is the parent's own */
        for (;;) pause();
    sq = ring_mmap(ring, 4096, IORING_OFF_SQ_RING);
    cq = ring_mmap(ring, 4096, IORING_OFF_CQ_RING);
    sqe = (struct io_uring_sqe *)ring_mmap(ring, 4096, IORING_OFF_SQES);
    for (puts("ready"), fflush(stdout); read(0, &letter, 1) == 1; fflush(stdout)) {
        if (letter == '.') {
            printf("%d\n", munmap(sq, 4096) | munmap(cq, 4096) | munmap(sqe, 4096) | close(ring));
            continue;
        }
        memset(bytes, letter, SIZE);
        pwrite(fd, bytes, SIZE, 0);
        printf("%d\n", read_fixed(ring, fd, buffer));
    }
}
