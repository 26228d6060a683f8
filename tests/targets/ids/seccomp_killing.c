/* A filter that kills on every call but those which the program needs: no freeze makes one that it would not. */
#define _GNU_SOURCE
#include "target_api.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define ALLOW(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void confine(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(SYS_read), ALLOW(SYS_write), ALLOW(SYS_openat), ALLOW(SYS_close), ALLOW(SYS_newfstatat),
		ALLOW(SYS_fstat), ALLOW(SYS_rename), ALLOW(SYS_brk), ALLOW(SYS_mmap), ALLOW(SYS_munmap), ALLOW(SYS_getpid), ALLOW(SYS_getrandom),
		ALLOW(SYS_clock_nanosleep), ALLOW(SYS_restart_syscall), ALLOW(SYS_rt_sigreturn), ALLOW(SYS_exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = {sizeof code / sizeof *code, code};
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		skip("no seccomp filters");
}

static unsigned char area[64 << 12] = {1};

int main(int argc, char **argv)
{
	start(argc, argv);
	confine();
	int tampered = 0;
	publish("ready", "");
	for (unsigned long n = 0; !gone(&tampered); n++) {
		area[n * 7919 % sizeof area]++;
		usleep(10000);
	}
	pass();
}
