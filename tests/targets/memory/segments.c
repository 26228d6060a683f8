/* Segments in the local descriptor table (modify_ldt), one of them far up; a thread has one loaded; a child has its own. */
#define _GNU_SOURCE
#include "target_api.h"
#include <asm/ldt.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { FIRST = 3, FAR = 6000 };
static unsigned *low;
static unsigned char before[65536], after[65536];
static volatile int step;

static void set(int number, unsigned base, unsigned limit, int contents, int expand)
{
	struct user_desc desc = { .entry_number = number, .base_addr = base, .limit = limit, .seg_32bit = 1,
				  .contents = contents, .read_exec_only = contents == 2, .limit_in_pages = expand,
				  .useable = 1 };
	if (syscall(SYS_modify_ldt, 0x11, &desc, sizeof desc) != 0)
		skip("no modify_ldt");
}

static unsigned through(int number, unsigned offset)
{
	unsigned value;
	unsigned short selector = number << 3 | 7, old;
	__asm__ volatile("mov %%gs, %1; mov %2, %%gs; mov %%gs:(%q3), %0; mov %1, %%gs"
			 : "=&r"(value), "=&r"(old) : "r"(selector), "r"(offset));
	return value;
}

static void *loaded(void *unused)
{
	unsigned value;
	unsigned short selector = FIRST << 3 | 7, now;
	__asm__ volatile("mov %0, %%gs" : : "r"(selector));
	step = 1;
	while (step < 2)
		;
	__asm__ volatile("mov %%gs, %0; mov %%gs:8, %1" : "=r"(now), "=r"(value));
	check(now == selector && value == 1002, "the segment that was loaded");
	return unused;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t thread;
	int status, tampered;
	low = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	for (unsigned i = 0; i < 2048; i++)
		low[i] = 1000 + i;
	set(FIRST, (unsigned)(unsigned long)low, 4095, 0, 0);
	set(FAR, (unsigned)(unsigned long)low + 4096, 1, 0, 1);
	set(FIRST + 1, 0x12345678, 0xfffff, 2, 1);
	pid_t child = fork();
	if (child == 0) {
		set(FIRST, (unsigned)(unsigned long)low + 400, 99, 0, 0);
		while (!gone(&tampered))
			usleep(20000);
		_exit(through(FIRST, 0) == 1100 && through(FAR, 0) == 2024 ? 7 : 9);
	}
	check(syscall(SYS_modify_ldt, 0, before, sizeof before) == sizeof before, "modify_ldt");
	pthread_create(&thread, NULL, loaded, NULL);
	while (step < 1)
		usleep(1000);
	if (checkpoint())
		set(FIRST + 1, 0, 0, 0, 0);
	check(syscall(SYS_modify_ldt, 0, after, sizeof after) == sizeof after, "modify_ldt");
	check(!memcmp(before, after, sizeof after), "the descriptors");
	check(through(FIRST, 8) == 1002 && through(FAR, 8) == 2026, "what the segments show");
	step = 2;
	pthread_join(thread, NULL);
	check(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7, "the child's segments");
	pass();
}
