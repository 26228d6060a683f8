/* The oracle's target: does to its memory what it is told, one order at a time, and nothing else.

   Orders are written into the page at CONTROL from outside (process_vm_writev), so that no descriptor leads out of the
   tree: the words 1..9 first, word 0 (the number of the order) last, and SIGUSR1 wakes it. The answer stands in words 10 and 11 (number,
   result or -errno). A child starts with a copy of the page and is told by its own pid. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CONTROL 0x0e0000000000UL
#define PAGE 4096UL

enum { CALL, FILL, WRITE_BYTES, READ_BYTES, FORK_WRITE, CHILD, EXEC, VFORK, SPIN, REST, DEEPEN, REAP, FILE_AT, LEAVE, WRITE_FILE, SCATTER, ADVISE_EACH };

static volatile int64_t *const words = (volatile int64_t *)CONTROL;
static __thread sigjmp_buf on_fault;
static __thread volatile int guarded;

static void fault(int number)
{
	if (guarded)
		siglongjmp(on_fault, 1);
	signal(number, SIG_DFL);
}

static uint64_t next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Every word of n pages; pages that cannot be written are passed over. Gives how many were. */
static int64_t fill(uint64_t at, int64_t n, uint64_t seed)
{
	int64_t done = 0;
	for (int64_t page = 0; page < n; page++) {
		uint64_t state = seed * 0x9e3779b97f4a7c15UL + page + 1;
		volatile uint64_t *word = (volatile uint64_t *)(at + page * PAGE);
		guarded = 1;
		if (!sigsetjmp(on_fault, 1)) {
			for (int i = 0; i < 512; i++)
				word[i] = next(&state);
			done++;
		}
		guarded = 0;
	}
	return done;
}

/* A few bytes in each of n pages; value 0 writes what is there already. */
static int64_t write_bytes(uint64_t at, int64_t n, uint8_t value)
{
	int64_t done = 0;
	for (int64_t page = 0; page < n; page++) {
		volatile uint8_t *byte = (volatile uint8_t *)(at + page * PAGE + (value * 97 + page) % 4000);
		guarded = 1;
		if (!sigsetjmp(on_fault, 1)) {
			for (int i = 0; i < 8; i++)
				byte[i] = value ? value + i : byte[i];
			done++;
		}
		guarded = 0;
	}
	return done;
}

/* As write_bytes, in every `stride`th page. */
static int64_t scatter(uint64_t at, int64_t n, int64_t stride, int value)
{
	int64_t done = 0;
	for (int64_t page = 0; page < n; page += stride)
		done += write_bytes(at + page * PAGE, 1, value + page % 7);
	return done;
}

static int64_t advise_each(uint64_t at, int64_t n, int64_t stride, int advice)
{
	int64_t done = 0;
	for (int64_t page = 0; page < n; page += stride)
		done += !madvise((void *)(at + page * PAGE), PAGE, advice);
	return done;
}

static int64_t read_bytes(uint64_t at, int64_t n)
{
	volatile int64_t sum = 0;
	for (int64_t page = 0; page < n; page++) {
		guarded = 1;
		if (!sigsetjmp(on_fault, 1))
			sum += *(volatile uint8_t *)(at + page * PAGE);
		guarded = 0;
	}
	return sum;
}

/* The pages are shared with a child for a moment, and written on both sides. */
static int64_t fork_write(uint64_t at, int64_t n, int value)
{
	pid_t child = fork();
	if (child == 0) {
		write_bytes(at, n, value ^ 0x5a);
		_exit(0);
	}
	if (child < 0)
		return -errno;
	int64_t done = write_bytes(at, n, value);
	waitpid(child, NULL, 0);
	return done;
}

static int64_t vfork_write(uint64_t at, int64_t n, int value)
{
	pid_t child = vfork();
	if (child == 0) {
		write_bytes(at, n, value); /* the same memory */
		execl("/proc/self/exe", "oracle-nothing", "nothing", NULL);
		_exit(1);
	}
	if (child < 0)
		return -errno;
	waitpid(child, NULL, 0);
	return 0;
}

#define SPINNERS 3
static pthread_t spinners[SPINNERS];
static volatile int spinning[SPINNERS];
static struct { uint64_t at; int64_t n; } areas[SPINNERS];

static void *spin(void *argument)
{
	long me = (long)argument;
	uint64_t state = 88172645463325252UL + me;
	while (spinning[me]) {
		uint64_t random = next(&state);
		write_bytes(areas[me].at + random % areas[me].n * PAGE, 1, 1 + random / 64 % 255);
	}
	return NULL;
}

static int64_t start_spinning(long me, uint64_t at, int64_t n)
{
	if (spinning[me])
		return -EBUSY;
	areas[me].at = at;
	areas[me].n = n;
	spinning[me] = 1;
	int error = pthread_create(&spinners[me], NULL, spin, (void *)me);
	if (error)
		spinning[me] = 0;
	return -error;
}

static int64_t rest(void)
{
	int64_t ended = 0;
	for (int i = 0; i < SPINNERS; i++)
		if (spinning[i]) {
			spinning[i] = 0;
			pthread_join(spinners[i], NULL);
			ended++;
		}
	return ended;
}

static __attribute__((noinline)) int64_t deepen(int64_t depth)
{
	volatile char here[PAGE];
	here[depth % PAGE] = depth;
	return depth > 0 ? deepen(depth - 1) + here[depth % PAGE] : 0;
}

static int64_t reap(void)
{
	int64_t count = 0;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		count++;
	return count;
}

/* A file of n pages at descriptor `slot`. */
static int64_t file_at(int slot, int64_t n, const char *path, int unlinked)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		return -errno;
	for (int64_t page = 0; page < n; page++) {
		char text[PAGE];
		memset(text, 'a' + page % 26, sizeof text);
		if (write(fd, text, sizeof text) != sizeof text)
			return -errno;
	}
	if (unlinked)
		unlink(path);
	int made = dup3(fd, slot, O_CLOEXEC);
	close(fd);
	return made < 0 ? -errno : 0;
}

static int64_t write_file(int fd, int64_t offset, int64_t size, int value)
{
	char text[8192];
	memset(text, value, sizeof text);
	int64_t done = pwrite(fd, text, size < 8192 ? size : 8192, offset);
	return done < 0 ? -errno : done;
}

static void adopt(void)
{
	mmap((void *)CONTROL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static int64_t obey(int64_t order)
{
	int64_t a[8];
	for (int i = 0; i < 8; i++)
		a[i] = words[2 + i];
	(void)order;
	switch (words[1]) {
	case CALL: {
		int64_t result = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
		return result == -1 ? -errno : result;
	}
	case FILL: return fill(a[0], a[1], a[2]);
	case WRITE_BYTES: return write_bytes(a[0], a[1], a[2]);
	case READ_BYTES: return read_bytes(a[0], a[1]);
	case FORK_WRITE: return fork_write(a[0], a[1], a[2]);
	case CHILD: {
		pid_t child = fork();
		if (child == 0) {
			/* The threads of the parent are not here. */
			for (int i = 0; i < SPINNERS; i++)
				spinning[i] = 0;
			words[11] = 0;
			words[10] = order;
			return INT64_MIN;
		}
		return child < 0 ? -errno : child;
	}
	case EXEC:
		words[10] = 0;
		execl("/proc/self/exe", "oracle-target", "again", NULL);
		return -errno;
	case VFORK: return vfork_write(a[0], a[1], a[2]);
	case SPIN: return start_spinning(a[0], a[1], a[2]);
	case REST: return rest();
	case DEEPEN: return deepen(a[0]);
	case REAP: return reap();
	case FILE_AT: return file_at(a[0], a[1], (const char *)CONTROL + 1024, a[2]);
	case LEAVE: _exit(0);
	case SCATTER: return scatter(a[0], a[1], a[2], a[3]);
	case ADVISE_EACH: return advise_each(a[0], a[1], a[2], a[3]);
	case WRITE_FILE: return write_file(a[0], a[1], a[2], a[3]);
	}
	return -ENOSYS;
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "nothing"))
		return 0;
	adopt();
	static char alternate[65536] __attribute__((aligned(16)));
	stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
	struct sigaction action = {.sa_handler = fault, .sa_flags = SA_ONSTACK | SA_NODEFER};
	sigaltstack(&stack, NULL);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	sigset_t wake;
	sigemptyset(&wake);
	sigaddset(&wake, SIGUSR1);
	sigprocmask(SIG_BLOCK, &wake, NULL);
	words[10] = -1; /* here */
	int64_t done = 0;
	for (;;) {
		if (words[0] == done) {
			sigwaitinfo(&wake, NULL); /* blocked, with a stack that does not change */
			continue;
		}
		done = words[0];
		int64_t result = obey(done);
		if (result == INT64_MIN) /* the new child: the order was its parent's */
			continue;
		words[11] = result;
		words[10] = done;
	}
}
