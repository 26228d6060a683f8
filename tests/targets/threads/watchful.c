/* Threads that watch all that a freeze could disturb: registers, errno, masks, alternate stacks, descriptors, memory,
   and what interrupted calls give. Where a file "tolerant" stands in its directory (ckpt gets killed there) calls that
   only the kernel could have resumed may end with EINTR; else no call may. */
#define _GNU_SOURCE
#include "target_api.h"
#include <dirent.h>
#include <immintrin.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

enum { REGISTERS, VECTORS, SLEEP, FUTEX, POLL, READ, WRITE, EPOLL, HANDLER, MEMORY, PAUSED, NR };

static volatile long turns[NR];
static volatile int stop;
static int tolerant;
static __thread int in_handler;

static void excused(const char *call)
{
	if (errno != EINTR || !tolerant)
		fail(call);
}

/* What every thread of ours has for itself. */
struct own {
	sigset_t mask;
	stack_t stack;
};

static void settle(struct own *own, int nr)
{
	static char stacks[NR][32768] __attribute__((aligned(16)));
	stack_t stack = {.ss_sp = stacks[nr], .ss_size = sizeof stacks[nr]};
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 5);
	sigaddset(&set, SIGRTMIN + 5 + nr % 3 + 1);
	check(pthread_sigmask(SIG_SETMASK, &set, NULL) == 0, "sigmask");
	check(sigaltstack(&stack, NULL) == 0, "sigaltstack");
	pthread_sigmask(SIG_SETMASK, NULL, &own->mask);
	sigaltstack(NULL, &own->stack);
	errno = 77 + nr;
}

static void still(const struct own *own, int nr)
{
	check(errno == 77 + nr, "errno changed");
	sigset_t mask;
	stack_t stack;
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	check(memcmp(&mask, &own->mask, 8) == 0, "the signal mask changed");
	sigaltstack(NULL, &stack);
	check(stack.ss_sp == own->stack.ss_sp && stack.ss_size == own->stack.ss_size, "the alternate stack changed");
	errno = 77 + nr;
	turns[nr]++;
}

/* General registers and the red zone: nothing but these instructions touches them. */
static void *registers(void *argument)
{
	struct own own;
	settle(&own, REGISTERS);
	while (!stop) {
		for (int i = 0; i < 20; i++) {
			uint64_t bad;
			__asm__ volatile(
				"mov $0x1111, %%rbx\n mov $0x2222, %%rcx\n mov $0x3333, %%rdx\n mov $0x4444, %%rsi\n"
				"mov $0x5555, %%rdi\n mov $0x6666, %%r8\n mov $0x7777, %%r9\n mov $0x8888, %%r10\n"
				"mov $0x9999, %%r11\n mov $0xaaaa, %%r12\n mov $0xbbbb, %%r13\n mov $0xcccc, %%r14\n"
				"mov $200000, %%r15\n mov %%r15, -8(%%rsp)\n movq $0x5a5a, -120(%%rsp)\n"
				"1: dec %%r15\n jnz 1b\n"
				"xor %%eax, %%eax\n"
				"cmp $0x1111, %%rbx\n jne 2f\n cmp $0x2222, %%rcx\n jne 2f\n cmp $0x3333, %%rdx\n jne 2f\n"
				"cmp $0x4444, %%rsi\n jne 2f\n cmp $0x5555, %%rdi\n jne 2f\n cmp $0x6666, %%r8\n jne 2f\n"
				"cmp $0x7777, %%r9\n jne 2f\n cmp $0x8888, %%r10\n jne 2f\n cmp $0x9999, %%r11\n jne 2f\n"
				"cmp $0xaaaa, %%r12\n jne 2f\n cmp $0xbbbb, %%r13\n jne 2f\n cmp $0xcccc, %%r14\n jne 2f\n"
				"cmpq $200000, -8(%%rsp)\n jne 2f\n cmpq $0x5a5a, -120(%%rsp)\n je 3f\n"
				"2: inc %%eax\n 3:\n"
				: "=a"(bad)::"rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
				"r15", "memory", "cc");
			check(!bad, "a general register or the red zone changed");
		}
		still(&own, REGISTERS);
		usleep(4000);
		errno = 77 + REGISTERS;
	}
	return NULL;
}

__attribute__((target("avx"))) static int vectors_once(long n)
{
	long wanted[4] = {n, n * 3, ~n, 33}, got[4];
	uint32_t mxcsr = 0x1f80 | 0x6000, now;
	__asm__ volatile("vmovdqu %0, %%ymm9\n vmovdqu %0, %%ymm15\n ldmxcsr %1" ::"m"(wanted), "m"(mxcsr) : "xmm9", "xmm15");
	for (volatile int i = 0; i < 200000; i++)
		;
	__asm__ volatile("vmovdqu %%ymm9, %0" : "=m"(got));
	for (int i = 0; i < 4; i++)
		if (got[i] != wanted[i])
			return 1;
	__asm__ volatile("vmovdqu %%ymm15, %0\n stmxcsr %1" : "=m"(got), "=m"(now));
	for (int i = 0; i < 4; i++)
		if (got[i] != wanted[i])
			return 1;
	return (now & 0xffc0) != mxcsr;
}

static void *vectors(void *argument)
{
	struct own own;
	settle(&own, VECTORS);
	for (long n = 1; !stop; n++) {
		check(!vectors_once(n), "a vector register or mxcsr changed");
		still(&own, VECTORS);
		usleep(4000);
		errno = 77 + VECTORS;
	}
	return NULL;
}

static long elapsed(const struct timespec *since)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - since->tv_sec) * 1000000000L + now.tv_nsec - since->tv_nsec;
}

static void *sleeper(void *argument)
{
	struct own own;
	settle(&own, SLEEP);
	while (!stop) {
		struct timespec time = {0, 30000000}, rest = {0, 0}, start;
		clock_gettime(CLOCK_MONOTONIC, &start);
		if (nanosleep(&time, &rest)) {
			excused("nanosleep failed");
			check(rest.tv_sec == 0 && rest.tv_nsec > 0 && rest.tv_nsec <= 30000000, "what is left of a sleep is wrong");
		} else {
			check(elapsed(&start) >= 30000000, "a sleep ended early");
		}
		errno = 77 + SLEEP;
		still(&own, SLEEP);
	}
	return NULL;
}

static void *waiter(void *argument)
{
	struct own own;
	int word = 5;
	settle(&own, FUTEX);
	while (!stop) {
		struct timespec time = {0, 25000000};
		check(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 5, &time, NULL, 0) == -1, "a futex wait was woken");
		if (errno != ETIMEDOUT)
			excused("a futex wait failed");
		errno = 77 + FUTEX;
		still(&own, FUTEX);
	}
	return NULL;
}

static int quiet[2], stream[2], event_pipe[2];

static void *poller(void *argument)
{
	struct own own;
	settle(&own, POLL);
	while (!stop) {
		struct pollfd fd = {quiet[0], POLLIN, 0};
		int got = poll(&fd, 1, 20);
		if (got)
			got < 0 ? excused("poll failed") : fail("poll found something");
		errno = 77 + POLL;
		still(&own, POLL);
	}
	return NULL;
}

/* A blocked read, and a writer that feeds it with numbers in order. */
static void *reader(void *argument)
{
	struct own own;
	uint32_t wanted = 0, got;
	settle(&own, READ);
	while (!stop) {
		check(read(stream[0], &got, 4) == 4, "a blocked read failed");
		check(got == wanted++, "a blocked read lost or doubled something");
		still(&own, READ);
	}
	return NULL;
}

static void *writer(void *argument)
{
	struct own own;
	settle(&own, WRITE);
	for (uint32_t n = 0; !stop; n++) {
		check(write(stream[1], &n, 4) == 4, "write failed");
		if (n % 3 == 0)
			check(write(event_pipe[1], "x", 1) == 1, "write failed");
		still(&own, WRITE);
		usleep(7000);
		errno = 77 + WRITE;
	}
	return NULL;
}

static void *watcher(void *argument)
{
	struct own own;
	char byte;
	int fd = *(int *)argument;
	settle(&own, EPOLL);
	while (!stop) {
		struct epoll_event event;
		int got = epoll_wait(fd, &event, 1, -1);
		if (got == 1)
			check(event.data.u64 == 4711 && read(event_pipe[0], &byte, 1) == 1, "epoll gave something else");
		else if (errno != EINTR) /* signal(7): any stop may end it so */
			fail("epoll_wait failed");
		errno = 77 + EPOLL;
		still(&own, EPOLL);
	}
	return NULL;
}

/* A handler that runs on the alternate stack most of the time. */
static void on_alternate(int number, siginfo_t *info, void *context)
{
	stack_t now;
	char here;
	in_handler = 1;
	check(number == SIGRTMIN + 1 && info->si_code == SI_TKILL, "the handler got something else");
	sigaltstack(NULL, &now);
	check(now.ss_flags == SS_ONSTACK, "the handler is not on the alternate stack");
	check(&here >= (char *)now.ss_sp && &here < (char *)now.ss_sp + now.ss_size, "the handler has another stack");
	long deep[64];
	for (int i = 0; i < 64; i++)
		deep[i] = i * 7 + number;
	for (volatile int i = 0; i < 1000000; i++)
		;
	for (int i = 0; i < 64; i++)
		check(deep[i] == i * 7 + number, "the alternate stack was overwritten");
	in_handler = 0;
}

static void *handled(void *argument)
{
	struct own own;
	settle(&own, HANDLER);
	while (!stop) {
		pthread_kill(pthread_self(), SIGRTMIN + 1);
		check(errno == 77 + HANDLER, "errno changed");
		still(&own, HANDLER);
		usleep(4000);
		errno = 77 + HANDLER;
	}
	return NULL;
}

static int descriptors(void)
{
	int count = 0;
	DIR *listing = opendir("/proc/self/fd");
	while (readdir(listing) != NULL)
		count++;
	closedir(listing);
	return count;
}

/* Memory that changes by rules: a wrong byte shows at once. */
static void *memory(void *argument)
{
	struct own own;
	enum { PAGES = 256 };
	uint64_t *area = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	static uint64_t written[PAGES];
	settle(&own, MEMORY);
	for (uint64_t n = 1; !stop; n++) {
		int page = n * 7919 % PAGES;
		written[page] = n;
		for (int i = 0; i < 512; i++)
			area[page * 512 + i] = n ^ i;
		for (int p = 0; p < PAGES; p++)
			for (int i = 0; i < 512; i += 37)
				check(area[p * 512 + i] == (written[p] ? (written[p] ^ i) : 0), "memory changed");
		still(&own, MEMORY);
		usleep(4000);
		errno = 77 + MEMORY;
	}
	return NULL;
}

/* Blocked for good, without a time limit. */
static void *paused(void *argument)
{
	struct own own;
	static int word = 9;
	settle(&own, PAUSED);
	while (!stop) {
		if (syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 9, NULL, NULL, 0))
			fail("a futex wait without a time limit ended");
		still(&own, PAUSED);
		word = 9;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	char path[512];
	snprintf(path, sizeof path, "%s/tolerant", directory);
	tolerant = access(path, F_OK) == 0;
	struct sigaction action = {.sa_sigaction = on_alternate, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	check(sigaction(SIGRTMIN + 1, &action, NULL) == 0, "sigaction");
	check(!pipe(quiet) && !pipe(stream) && !pipe(event_pipe), "pipe");
	int epoll = epoll_create1(0);
	struct epoll_event event = {EPOLLIN, {.u64 = 4711}};
	check(epoll >= 0 && !epoll_ctl(epoll, EPOLL_CTL_ADD, event_pipe[0], &event), "epoll");
	void *(*work[NR])(void *) = {registers, __builtin_cpu_supports("avx") ? vectors : registers, sleeper, waiter, poller,
				     reader, writer, watcher, handled, memory, paused};
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	for (int i = 0; i < NR; i++) {
		pthread_t thread;
		check(pthread_create(&thread, i == HANDLER ? &small : NULL, work[i], &epoll) == 0, "pthread_create");
	}
	usleep(200000);
	int open_now = descriptors(), tampered = 0;
	char text[32];
	snprintf(text, sizeof text, "%d", (int)getpid());
	publish("ready", text);
	long last[NR] = {0};
	for (int round = 1; !gone(&tampered); round++) {
		usleep(20000);
		for (int tries = 0; descriptors() != open_now; tries++) { /* ckpt's own, for a moment */
			check(tries < 1000, "a descriptor has come or gone");
			usleep(20000);
		}
		if (round % 500)
			continue;
		for (int i = 0; i < PAUSED; i++) {
			check(turns[i] != last[i], "a thread stands still");
			last[i] = turns[i];
		}
	}
	long before[NR];
	for (int i = 0; i < NR; i++)
		before[i] = turns[i];
	for (int tries = 0; tries < 3000; tries++) {
		int left = 0;
		usleep(10000);
		for (int i = 0; i < PAUSED; i++)
			left += turns[i] == before[i];
		if (!left)
			pass();
	}
	fail(tampered ? "tampered" : "a thread stands still");
}
