/* A program that never had a name (fexecve of a memfd): /proc/self/exe. */
#define _GNU_SOURCE
#include "target_api.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
extern char **environ;
int main(int argc, char **argv)
{
	char link[512], after[512];
	struct stat a, b;
	if (getenv("SELFEXE") == NULL) {
		int in = open("/proc/self/exe", O_RDONLY), m = memfd_create("prog", MFD_CLOEXEC), n;
		char buf[65536];
		while ((n = read(in, buf, sizeof buf)) > 0) if (write(m, buf, n) != n) return 1;
		close(in);
		setenv("SELFEXE", "1", 1);
		fexecve(m, argv, environ);
		return 9;
	}
	start(argc, argv);
	ssize_t n = readlink("/proc/self/exe", link, 511);
	link[n] = 0;
	stat("/proc/self/exe", &a);
	checkpoint();
	n = readlink("/proc/self/exe", after, 511);
	check(n > 0, "readlink");
	after[n] = 0;
	fprintf(stderr, "%s -> %s\n", link, after);
	check(stat("/proc/self/exe", &b) == 0 && a.st_size == b.st_size, "stat");
	check(!strcmp(link, after), "another name");
	pass();
}
