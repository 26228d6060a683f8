/* CPUID gives SIGSEGV (ARCH_SET_CPUID), in a thread that was born so, and in a child. */
#include "target_api.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define ARCH_GET_CPUID 0x1011
#define ARCH_SET_CPUID 0x1012

static __thread sigjmp_buf back;
static int tampered;

static void caught(int number)
{
	siglongjmp(back, number);
}

static int forbidden(void)
{
	unsigned a = 0, b, c, d;
	if (sigsetjmp(back, 1) == SIGSEGV)
		return 1;
	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
	return 0;
}

static void *thread(void *unused)
{
	while (!gone(&tampered))
		usleep(20000);
	check(forbidden(), "the thread may ask the CPU");
	return unused;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	if (syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0))
		skip("this CPU cannot forbid it");
	signal(SIGSEGV, caught);
	pthread_t one;
	pthread_create(&one, NULL, thread, NULL);
	pid_t child = fork();
	if (child == 0) {
		thread(NULL);
		_exit(0);
	}
	if (checkpoint())
		syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1);
	check(syscall(SYS_arch_prctl, ARCH_GET_CPUID, 0) == 0 && forbidden(), "the program may ask the CPU");
	pthread_join(one, NULL);
	int status;
	waitpid(child, &status, 0);
	check(status == 0, "the child may ask the CPU");
	pass();
}
