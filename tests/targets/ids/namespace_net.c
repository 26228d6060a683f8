/* Network namespaces with nothing but a loopback, which is down in one and up in the other; a child in its parent's. */
#define _GNU_SOURCE
#include "target_api.h"
#include <net/if.h>
#include <signal.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* The flags of lo, and whether it is alone. */
static int loopback(int set)
{
	struct ifreq request = {.ifr_name = "lo"};
	struct if_nameindex *list = if_nameindex();
	int alone = list && list[0].if_index && !list[1].if_index, any = socket(AF_INET, SOCK_DGRAM, 0);
	if_freenameindex(list);
	if (set) {
		request.ifr_flags = IFF_UP;
		ioctl(any, SIOCSIFFLAGS, &request);
	}
	ioctl(any, SIOCGIFFLAGS, &request);
	close(any);
	return alone ? request.ifr_flags & IFF_UP : -1;
}

static pid_t child(int up, int ready)
{
	int tampered;
	pid_t pid = fork();
	if (pid)
		return pid;
	if (unshare(CLONE_NEWNET))
		_exit(2);
	if (loopback(up) != (up ? IFF_UP : 0))
		_exit(3);
	pid = fork();
	check(write(ready, "x", 1) == 1, "write");
	while (!gone(&tampered))
		usleep(20000);
	if (loopback(0) != (up ? IFF_UP : 0))
		_exit(4);
	char inode[2][64] = {"", ""}, path[64];
	int status;
	if (pid == 0)
		pause();
	snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
	if (readlink(path, inode[0], 63) < 0 || readlink("/proc/self/ns/net", inode[1], 63) < 0)
		_exit(5);
	kill(pid, SIGKILL);
	_exit(waitpid(pid, &status, 0) == pid && strcmp(inode[0], inode[1]) == 0 ? 0 : 6);
}

int main(int argc, char **argv)
{
	start(argc, argv);
	int ends[2], status;
	char bytes[4], text[64];
	if (access("/proc/self/ns/net", F_OK))
		skip("no network namespaces");
	check(pipe(ends) == 0, "pipe");
	pid_t children[2] = {child(0, ends[1]), child(1, ends[1])};
	for (int i = 0; i < 4; i++)
		check(read(ends[0], bytes, 1) == 1, "read");
	checkpoint();
	for (int i = 0; i < 2; i++) {
		check(waitpid(children[i], &status, 0) == children[i], "waitpid");
		snprintf(text, sizeof text, "child %d ended with %x", i, status);
		check(status == 0, text);
	}
	check(if_nametoindex("lo") != 0, "the root's network");
	pass();
}
