/* Each thread has other signals waiting, with values; and the process has its own. */
#define _GNU_SOURCE
#include "target_api.h"
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

enum { N = 8 };
static pthread_barrier_t barrier;
static int go, tids[N];
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;

static void *thread(void *a)
{
	long n = (long)a;
	sigset_t set, pend;
	siginfo_t i;
	sigfillset(&set);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	tids[n] = syscall(SYS_gettid);
	for (int k = 0; k <= n; k++) {
		siginfo_t s = {.si_signo = SIGRTMIN + (int)n, .si_code = SI_QUEUE};
		s.si_pid = 7000 + k;
		s.si_uid = 3;
		s.si_value.sival_ptr = (void *)(0x123400000000 + n * 100 + k);
		check(syscall(SYS_rt_tgsigqueueinfo, getpid(), tids[n], SIGRTMIN + n, &s) == 0, "queue");
	}
	syscall(SYS_tgkill, getpid(), tids[n], SIGUSR1);
	syscall(SYS_tgkill, getpid(), tids[n], SIGUSR1);
	if (n & 1)
		syscall(SYS_tgkill, getpid(), tids[n], SIGSEGV);
	pthread_barrier_wait(&barrier);
	pthread_mutex_lock(&m);
	while (!go)
		pthread_cond_wait(&c, &m);
	pthread_mutex_unlock(&m);
	check(tids[n] == syscall(SYS_gettid), "tid");
	sigpending(&pend);
	check(sigismember(&pend, SIGUSR1) == 1 && sigismember(&pend, SIGSEGV) == (n & 1), "standard");
	for (int k = 0; k < N; k++)
		check(sigismember(&pend, SIGRTMIN + k) == (k == n), "somebody else's");
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + n);
	struct timespec none = {0, 0};
	for (int k = 0; k <= n; k++) {
		check(sigtimedwait(&set, &i, &none) == SIGRTMIN + n, "the queue is shorter");
		check(i.si_code == SI_QUEUE && i.si_pid == 7000 + k && i.si_uid == 3, "its siginfo");
		check(i.si_value.sival_ptr == (void *)(0x123400000000 + n * 100 + k), "its value");
	}
	check(sigtimedwait(&set, &i, &none) == -1, "the queue is longer");
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	check(sigtimedwait(&set, &i, &none) == SIGUSR1, "usr1");
	check(sigtimedwait(&set, &i, &none) == -1, "two usr1");
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv);
	pthread_t t[N];
	sigset_t set, old;
	sigfillset(&set);
	pthread_barrier_init(&barrier, NULL, N + 1);
	pthread_sigmask(SIG_SETMASK, &set, &old);
	for (long i = 0; i < N; i++)
		pthread_create(&t[i], NULL, thread, (void *)i);
	union sigval v = {.sival_int = 99};
	sigqueue(getpid(), SIGRTMIN + 20, v);
	kill(getpid(), SIGUSR2);
	pthread_barrier_wait(&barrier);
	checkpoint();
	siginfo_t i;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 20);
	check(sigwaitinfo(&set, &i) == SIGRTMIN + 20 && i.si_value.sival_int == 99 && i.si_pid == getpid(), "shared");
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	check(sigwaitinfo(&set, &i) == SIGUSR2 && i.si_code == SI_USER, "shared usr2");
	pthread_mutex_lock(&m);
	go = 1;
	pthread_cond_broadcast(&c);
	pthread_mutex_unlock(&m);
	for (int k = 0; k < N; k++)
		pthread_join(t[k], NULL);
	pass();
}
