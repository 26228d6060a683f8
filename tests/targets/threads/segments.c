/* fs and gs base, x87 and SSE control words with odd rounding, the direction of flags, a CPU-time clock of a thread. */
#define _GNU_SOURCE
#include "target_api.h"
#include <asm/prctl.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>

static volatile int step;
static clockid_t clock_of_thread;

static void *other(void *unused)
{
	unsigned long gs = 0;
	unsigned short control = 0x0c7f, now;
	unsigned mxcsr = 0xffc0, seen;
	syscall(SYS_arch_prctl, ARCH_SET_GS, 0x7123456789abUL);
	__asm__ volatile("fldcw %0" : : "m"(control));
	__asm__ volatile("fld1; fldpi; fldl2e");
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	step = 1;
	while (step < 2)
		;
	__asm__ volatile("fnstcw %0" : "=m"(now));
	__asm__ volatile("stmxcsr %0" : "=m"(seen));
	double e, pi, one;
	__asm__ volatile("fstpl %0; fstpl %1; fstpl %2" : "=m"(e), "=m"(pi), "=m"(one));
	syscall(SYS_arch_prctl, ARCH_GET_GS, &gs);
	check(gs == 0x7123456789abUL, "gs base");
	check(now == control && (seen & 0xffc0) == 0xffc0, "control words");
	check(one == 1 && pi > 3.14 && pi < 3.15 && e > 1.44 && e < 1.45, "the x87 stack");
	while (step < 3)
		;
	return unused;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t thread;
	struct timespec first, second;
	unsigned upward = 0x5f80, seen;
	__asm__ volatile("ldmxcsr %0" : : "m"(upward));
	pthread_create(&thread, NULL, other, NULL);
	pthread_getcpuclockid(thread, &clock_of_thread);
	while (step < 1)
		usleep(1000);
	checkpoint();
	__asm__ volatile("stmxcsr %0" : "=m"(seen));
	check((seen & 0x6000) == 0x4000, "rounding");
	step = 2;
	check(clock_gettime(clock_of_thread, &first) == 0, "the thread's clock");
	second = first;
	for (int i = 0; i < 3000 && second.tv_sec == first.tv_sec && second.tv_nsec == first.tv_nsec; i++) {
		usleep(10000);
		check(clock_gettime(clock_of_thread, &second) == 0, "the thread's clock");
	}
	check(second.tv_sec > first.tv_sec || second.tv_nsec > first.tv_nsec, "it stands still");
	step = 3;
	pthread_join(thread, NULL);
	pass();
}
