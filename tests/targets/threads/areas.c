/* Segments of threads (set_thread_area): of the first one, of another, with a selector of it in gs; a child has them, too. */
#define _GNU_SOURCE
#include "target_api.h"
#include <asm/ldt.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { SET = 243, GET = 244 }; /* as 32-bit calls: there are no others */
static struct user_desc *low; /* below 4 GiB */
static pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
static volatile int step;

static int call(int number)
{
	int result;
	asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(low) : "memory", "r8", "r9", "r10", "r11");
	return result;
}

static int make(unsigned base)
{
	struct user_desc wanted = {.entry_number = -1, .base_addr = base, .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1, .useable = 1};
	pthread_mutex_lock(&own);
	*low = wanted;
	int result = call(SET), number = low->entry_number;
	pthread_mutex_unlock(&own);
	return result ? -1 : number;
}

static int stands(int number, unsigned base)
{
	pthread_mutex_lock(&own);
	memset(low, 0, sizeof *low);
	low->entry_number = number;
	int good = call(GET) == 0 && low->base_addr == base && low->limit == 0xfffff && low->seg_32bit && low->useable;
	pthread_mutex_unlock(&own);
	return good;
}

static void *thread(void *unused)
{
	int first = make(0x55660000), second = make((unsigned)(long)low), selector;
	check(first > 0 && second > 0, "segments of a thread");
	asm volatile("mov %0, %%gs" : : "r"(second << 3 | 3));
	step = 1;
	while (step < 2)
		usleep(1000);
	check(stands(first, 0x55660000) && stands(second, (unsigned)(long)low), "the thread's segments");
	asm volatile("mov %%gs, %0" : "=r"(selector));
	check((selector & 0xffff) == (second << 3 | 3), "the selector in gs");
	unsigned value;
	pthread_mutex_lock(&own);
	low->limit = 0x12345678;
	asm volatile("mov %%gs:8, %0" : "=r"(value));
	pthread_mutex_unlock(&own);
	check(value == 0x12345678, "what gs leads to");
	return unused;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t other;
	int status, tampered;
	low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	int number = make(0x11220000);
	if (number < 0)
		skip("no set_thread_area (CONFIG_IA32_EMULATION)");
	pid_t child = fork();
	if (child == 0) {
		while (!gone(&tampered))
			usleep(10000);
		_exit(stands(number, 0x11220000) ? 5 : 6);
	}
	pthread_create(&other, NULL, thread, NULL);
	while (!step)
		usleep(1000);
	checkpoint();
	check(stands(number, 0x11220000), "the first thread's segment");
	step = 2;
	pthread_join(other, NULL);
	check(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5, "the child's segment");
	pass();
}
