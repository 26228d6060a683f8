/* Zombies of every signal and of many codes, some leading sessions and groups in which others live. */
#define _GNU_SOURCE
#include "target_api.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
static volatile int chld;
static void on(int n) { chld++; }
int main(int argc, char **argv)
{
	start(argc, argv);
	pid_t sig[65] = {0}, code[60], lead, member;
	int s, p[2], looked[2], t;
	char c;
	struct rlimit none = {0, 0};
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	setrlimit(RLIMIT_CORE, &none);
	for (int i = 1; i < 65; i++) {
		if (i == SIGCHLD || i == SIGCONT || i == SIGURG || i == SIGWINCH || i == SIGSTOP || i == SIGTSTP || i == SIGTTIN || i == SIGTTOU || i == 32 || i == 33) continue;
		sig[i] = fork();
		if (!sig[i]) { signal(i, SIG_DFL); kill(getpid(), i); for (;;) pause(); }
	}
	for (int i = 0; i < 60; i++) if (!(code[i] = fork())) _exit(i * 4);
	pipe(p);
	pipe(looked);
	lead = fork();
	if (!lead) {
		setsid();
		if (!fork()) {
			/* Both end when they are told to: a SIGCHLD for either is none that came with the restore. */
			close(looked[1]);
			if (!fork()) { write(p[1], "x", 1); pid_t sid = getsid(0); while (!gone(&t)) usleep(20000); read(looked[0], &c, 1); _exit(getsid(0) == sid ? 0 : 1); }
			setpgid(0, 0);
			while (!gone(&t)) usleep(20000);
			read(looked[0], &c, 1);
			_exit(0);
		}
		read(p[0], &c, 1);
		_exit(9);
	}
	siginfo_t info;
	waitid(P_PID, lead, &info, WEXITED | WNOWAIT);
	for (int i = 1; i < 65; i++) if (sig[i]) waitid(P_PID, sig[i], &info, WEXITED | WNOWAIT);
	for (int i = 0; i < 60; i++) waitid(P_PID, code[i], &info, WEXITED | WNOWAIT);
	signal(SIGCHLD, on);
	(void)member;
	checkpoint();
	check(chld == 0, "SIGCHLD came");
	close(looked[1]);
	for (int i = 1; i < 65; i++) if (sig[i]) {
		check(waitpid(sig[i], &s, 0) == sig[i], "gone");
		if (!WIFSIGNALED(s) || WTERMSIG(s) != i) { fprintf(stderr, "signal %d: %x\n", i, s); fail("another signal"); }
	}
	for (int i = 0; i < 60; i++) check(waitpid(code[i], &s, 0) == code[i] && WIFEXITED(s) && WEXITSTATUS(s) == i * 4, "code");
	check(waitpid(lead, &s, 0) == lead && WEXITSTATUS(s) == 9, "the leader");
	int ended = 0;
	while (waitpid(-1, &s, 0) > 0)
		check(WIFEXITED(s) && WEXITSTATUS(s) == 0, "a member of the dead leader's session"), ended++;
	check(ended == 2, "the orphans");
	pass();
}
