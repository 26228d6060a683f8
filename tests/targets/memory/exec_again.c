/* A program that executes itself again and again, with other memory each time. */
#include "target_api.h"
#include <fcntl.h>
#include <sys/mman.h>

#define SIZE (1 << 20)

static void all(const volatile char *at, int size, char byte, const char *what)
{
	for (int n = 0; n < size; n++)
		check(at[n] == byte, what);
}

/* In the file that is there: a snapshot may find it open, and has to find it again. */
static void tick(const char *text)
{
	char path[512];
	snprintf(path, sizeof path, "%s/tick", directory);
	int fd = open(path, O_WRONLY);
	check(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), "tick");
	close(fd);
}

int main(int argc, char **argv)
{
	int count = argc > 2 ? atoi(argv[2]) : 0, tampered = 0;
	char text[32];
	directory = argv[1];
	char *area = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *heap = malloc(SIZE / 8);
	memset(area, count, SIZE);
	memset(heap, ~count, SIZE / 8);
	snprintf(text, sizeof text, "%12d", count + 1);
	if (count == 0) {
		publish("tick", text);
		publish("ready", "");
	}
	tick(text);
	for (int n = 0; n < 8 && !gone(&tampered); n++)
		usleep(20000);
	if (tampered)
		area[5]++;
	all(area, SIZE, (char)count, "the mapping");
	all(heap, SIZE / 8, (char)~count, "the heap");
	if (gone(&tampered))
		pass();
	execl("/proc/self/exe", argv[0], argv[1], text, NULL);
	fail("exec");
}
