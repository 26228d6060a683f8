/* SysV messages: a queue with messages of several types, one task that waits to receive and one to send. */
#include "target_api.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/wait.h>

struct message {
	long type;
	char text[64];
};

int main(int argc, char **argv)
{
	start(argc, argv);
	int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600), full = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
	if (id < 0 || full < 0)
		skip("no SysV messages");
	struct message one = { 7, "seven" }, two = { 3, "three" }, got;
	check(msgsnd(id, &one, 6, 0) == 0 && msgsnd(id, &two, 6, 0) == 0, "msgsnd");
	struct msqid_ds about;
	check(msgctl(full, IPC_STAT, &about) == 0, "IPC_STAT");
	about.msg_qbytes = 64;
	check(msgctl(full, IPC_SET, &about) == 0, "IPC_SET");
	check(msgsnd(full, &one, 60, 0) == 0, "msgsnd");
	pid_t receiver = fork();
	if (receiver == 0)
		_exit(msgrcv(id, &got, 64, 9, 0) == 5 && strcmp(got.text, "nine") == 0 ? 5 : 6);
	pid_t sender = fork();
	if (sender == 0)
		_exit(msgsnd(full, &two, 60, 0) == 0 ? 5 : 6);
	usleep(200000);
	if (checkpoint())
		msgrcv(id, &got, 64, 0, 0);
	check(waitpid(receiver, NULL, WNOHANG) == 0 && waitpid(sender, NULL, WNOHANG) == 0, "they wait no more");
	check(msgrcv(id, &got, 64, 3, IPC_NOWAIT) == 6 && strcmp(got.text, "three") == 0, "the second message");
	struct message nine = { 9, "nine" };
	check(msgsnd(id, &nine, 5, 0) == 0, "msgsnd");
	check(msgrcv(full, &got, 64, 0, IPC_NOWAIT) == 60, "the full queue");
	int status;
	check(waitpid(receiver, &status, 0) == receiver && WEXITSTATUS(status) == 5, "the receiver");
	check(waitpid(sender, &status, 0) == sender && WEXITSTATUS(status) == 5, "the sender");
	check(msgrcv(id, &got, 64, 0, IPC_NOWAIT) == 6 && strcmp(got.text, "seven") == 0, "the first message");
	check(msgrcv(full, &got, 64, 0, IPC_NOWAIT) == 60 && got.type == 3, "the message that waited");
	msgctl(id, IPC_RMID, NULL);
	msgctl(full, IPC_RMID, NULL);
	pass();
}
