/* x87, SSE, AVX and AVX-512 registers of threads that never make a call while they hold values. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>

static volatile int stop;
static volatile long turns[4];

/* Not memcmp, which may use the registers that are watched. */
static inline __attribute__((always_inline)) int differ(const volatile long *a, const volatile long *b, int n)
{
	for (int i = 0; i < n; i++)
		if (a[i] != b[i])
			return 1;
	return 0;
}

static void *sse(void *argument)
{
	long n = (long)argument;
	double wanted = 1.5 + n, got;
	__asm__ volatile("movsd %0, %%xmm7\n movsd %0, %%xmm15" ::"m"(wanted) : "xmm7", "xmm15");
	while (!stop) {
		turns[n]++;
		__asm__ volatile("movsd %%xmm15, %0" : "=m"(got));
		if (got != wanted)
			fail("an SSE register changed");
	}
	return NULL;
}

__attribute__((target("avx"))) static void *avx(void *argument)
{
	long n = (long)argument, wanted[4] = {n, 11, 22, 33}, got[4];
	__asm__ volatile("vmovdqu %0, %%ymm9" ::"m"(wanted) : "xmm9");
	while (!stop) {
		turns[n]++;
		__asm__ volatile("vmovdqu %%ymm9, %0" : "=m"(got));
		if (differ(got, wanted, 4))
			fail("an AVX register changed");
	}
	return NULL;
}

__attribute__((target("avx512f"))) static void *avx512(void *argument)
{
	long n = (long)argument, wanted[8] = {n, 1, 2, 3, 4, 5, 6, 7}, got[8];
	unsigned mask = 0xBEEF, mask_now;
	__asm__ volatile("vmovdqu64 %0, %%zmm21\n kmovw %1, %%k3" ::"m"(wanted), "r"(mask));
	while (!stop) {
		turns[n]++;
		__asm__ volatile("vmovdqu64 %%zmm21, %0\n kmovw %%k3, %1" : "=m"(got), "=r"(mask_now));
		if (differ(got, wanted, 8) || mask_now != mask)
			fail("an AVX-512 register changed");
	}
	return NULL;
}

static void *x87(void *argument)
{
	long n = (long)argument;
	unsigned short control, wanted = 0x0F7F;
	unsigned csr, wanted_csr = 0x7F80;
	__asm__ volatile("fldcw %0\n ldmxcsr %1" ::"m"(wanted), "m"(wanted_csr));
	__asm__ volatile("fldpi");
	while (!stop) {
		turns[n]++;
		__asm__ volatile("fnstcw %0\n stmxcsr %1" : "=m"(control), "=m"(csr));
		if (control != wanted || (csr & 0xFFC0) != wanted_csr)
			fail("a control word changed");
	}
	double pi;
	__asm__ volatile("fstpl %0" : "=m"(pi));
	if (pi < 3.14 || pi > 3.15)
		fail("the x87 stack changed");
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	__builtin_cpu_init();
	pthread_t threads[4];
	pthread_create(&threads[0], NULL, sse, (void *)0);
	pthread_create(&threads[1], NULL, x87, (void *)1);
	pthread_create(&threads[2], NULL, __builtin_cpu_supports("avx") ? avx : sse, (void *)2);
	pthread_create(&threads[3], NULL, __builtin_cpu_supports("avx512f") ? avx512 : sse, (void *)3);
	checkpoint();
	for (int n = 0; n < 4; n++)
		for (long before = turns[n]; turns[n] == before;)
			usleep(1000);
	stop = 1;
	for (int n = 0; n < 4; n++)
		pthread_join(threads[n], NULL);
	pass();
}
