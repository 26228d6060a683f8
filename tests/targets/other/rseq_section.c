/* A leader that stands in a restartable sequence: whatever stops it sends it to the abort handler before it goes on,
   and ckpt runs its remote system calls in a leader. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <x86intrin.h>

extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

static volatile int stop, unnoticed;
static volatile long aborts;
static volatile uint64_t limit; /* TSC ticks of 150 ms: a hypervisor hardly takes a CPU away for so long, and a restore takes longer */

static void inside(void)
{
	char *area = (char *)__builtin_thread_pointer() + __rseq_offset;
	__asm__ volatile(
		".pushsection __rseq_cs, \"aw\"\n"
		".balign 32\n"
		"10: .long 0, 0\n .quad 2f, 4f - 2f, 6f\n"
		".popsection\n"
		"1: lea 10b(%%rip), %%rax\n mov %%rax, 8(%[area])\n"
		"2: rdtsc\n shl $32, %%rdx\n or %%rdx, %%rax\n mov %%rax, %%r8\n"
		"3: cmpl $0, %[stop]\n jne 4f\n"
		"rdtsc\n shl $32, %%rdx\n or %%rdx, %%rax\n"
		"mov %%rax, %%r9\n sub %%r8, %%r9\n mov %%rax, %%r8\n"
		"cmp %[limit], %%r9\n jbe 3b\n" /* a gap, and still inside */
		"movl $1, %[unnoticed]\n jmp 3b\n"
		"4: jmp 7f\n"
		".byte 0x0f, 0xb9, 0x3d\n .long 0x53053053\n" /* RSEQ_SIG */
		"6: incq %[aborts]\n jmp 1b\n"
		"7:\n"
		: [unnoticed] "+m"(unnoticed), [aborts] "+m"(aborts)
		: [area] "r"(area), [stop] "m"(stop), [limit] "m"(limit)
		: "rax", "rdx", "r8", "r9", "memory", "cc");
}

static void *other(void *unused)
{
	checkpoint();
	usleep(50000);
	stop = 1;
	return unused;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	if (!&__rseq_offset || __rseq_size == 0)
		skip("the C library has not registered rseq");
	uint64_t before = __rdtsc();
	usleep(150000);
	limit = __rdtsc() - before;
	pthread_t thread;
	pthread_create(&thread, NULL, other, NULL);
	inside();
	pthread_join(thread, NULL);
	check(!unnoticed, "a critical section went on after a stop");
	check(aborts > 0, "nothing ever stopped it");
	pass();
}
