/* The login uid (audit) of a process, of its thread and of a child is what it was, not that of whoever restores it. */
#define _GNU_SOURCE
#include "target_api.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>

static volatile int turn;
static char found[16];

static void get(char *text)
{
	int fd = open("/proc/thread-self/loginuid", O_RDONLY);
	ssize_t length = fd < 0 ? 0 : read(fd, text, 15);
	text[length > 0 ? length : 0] = 0;
	close(fd);
}

static void *thread(void *unused)
{
	while (!turn)
		usleep(5000);
	get(found);
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	int fd = open("/proc/self/loginuid", O_WRONLY), status;
	if (fd < 0 || write(fd, "1234", 4) != 4)
		skip("the login uid cannot be set");
	close(fd);
	pthread_t other;
	pthread_create(&other, NULL, thread, NULL);
	pid_t pid = fork();
	char text[16];
	if (pid == 0) {
		int tampered;
		while (!gone(&tampered))
			usleep(20000);
		get(text);
		_exit(strcmp(text, "1234") != 0);
	}
	checkpoint();
	get(text);
	check(strcmp(text, "1234") == 0, text);
	turn = 1;
	pthread_join(other, NULL);
	check(strcmp(found, "1234") == 0, "the thread's");
	check(waitpid(pid, &status, 0) == pid && status == 0, "the child's");
	pass();
}
