"""/dev/tty stays what it was opened as, in the session's leader and in a member; and a terminal open only as that."""

import fcntl
import os
import pty
import termios

from target_api import DIR, checkpoint, child, eventually, exit_code, publish, read_whole, run, wait_for_go


def facts(fd):
    return os.readlink(f"/proc/self/fd/{fd}"), os.fstat(fd).st_rdev, os.ttyname(fd), fcntl.fcntl(fd, fcntl.F_GETFL)


def main():
    master, slave = pty.openpty()

    def leader():
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        os.close(slave)
        own = os.open("/dev/tty", os.O_RDWR)
        before = facts(own)

        def member():
            reader = os.open("/dev/tty", os.O_RDONLY | os.O_NONBLOCK)
            seen = facts(own), facts(reader)
            publish("member", "")
            wait_for_go()
            assert (facts(own), facts(reader)) == seen

        pid = child(member)
        eventually((DIR / "member").exists, "the member is ready")
        publish("leader", "")
        wait_for_go()
        assert facts(own) == before and before[0] == "/dev/tty"
        os.write(own, b"still here\n")
        return exit_code(pid)

    pid = child(leader)
    eventually((DIR / "leader").exists, "the leader is ready")
    os.close(slave)
    if checkpoint():
        os.kill(pid, 9)
    assert exit_code(pid) == 0
    assert read_whole(master, 12) == b"still here\r\n"


run(main)
