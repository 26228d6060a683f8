/* Children that are born and end all the time, some left as zombies for a while: none is lost or told twice. */
#include "target_api.h"
#include <sys/wait.h>

int main(int argc, char **argv)
{
	start(argc, argv);
	pid_t made[64] = {0};
	int tampered = 0, count = 0, status;
	char text[32];
	snprintf(text, sizeof text, "%d", (int)getpid());
	publish("ready", text);
	while (!gone(&tampered)) {
		int slot = count++ % 64;
		if (made[slot]) {
			check(waitpid(made[slot], &status, 0) == made[slot], "a child was lost");
			check(WEXITSTATUS(status) == slot, "its exit code");
		}
		if ((made[slot] = fork()) == 0) {
			usleep(3000);
			_exit(slot);
		}
		usleep(1000);
	}
	for (int i = 0; i < 64; i++)
		if (made[i])
			check(waitpid(made[i], &status, 0) == made[i] && WEXITSTATUS(status) == i, "a child at the end");
	check(wait(&status) == -1, "a child too many");
	pass();
}
