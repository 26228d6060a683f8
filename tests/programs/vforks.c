/* vforks FILE: a thread that is in vfork nearly all the time; how often is counted in FILE. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *threads(void *nothing)
{
	for (;;)
		usleep(1000);
}

int main(int argc, char **argv)
{
	char text[32], name[512];
	pthread_t thread;
	signal(SIGCHLD, SIG_IGN); /* nobody need wait for them */
	snprintf(name, sizeof name, "%s.new", argv[1]);
	int fd = open(name, O_RDWR | O_CREAT, 0600);
	for (int i = 0; i < 4; i++)
		pthread_create(&thread, NULL, threads, NULL);
	for (long n = 1;; n++) {
		pwrite(fd, text, snprintf(text, sizeof text, "%20ld", n), 0);
		if (n == 1)
			rename(name, argv[1]);
		if (vfork() == 0) {
			usleep(20000);
			_exit(0);
		}
	}
}
