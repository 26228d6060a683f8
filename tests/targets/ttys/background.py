"""A session with a foreground job, a background job stopped by SIGTTIN, and a stopped one."""

import os
import pty
import signal
import time

from target_api import checkpoint, eventually, run, state


def main():
    pid, master = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)

        def job(function, foreground=False):
            made = os.fork()
            if made == 0:
                os.setpgid(0, 0)
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                if foreground:
                    os.tcsetpgrp(0, os.getpid())
                os._exit(function() or 0)
            try:
                os.setpgid(made, made)
            except OSError:
                pass
            return made

        reader = job(lambda: 3 if os.read(0, 100) == b"typed\n" else 4)
        waiting = job(lambda: time.sleep(1000))
        front = job(lambda: time.sleep(1000), foreground=True)
        os.waitpid(reader, os.WUNTRACED)
        os.kill(waiting, signal.SIGTSTP)
        os.waitpid(waiting, os.WUNTRACED)
        while os.tcgetpgrp(0) != front:
            time.sleep(0.01)
        os.write(1, b"%d %d %d ready\n" % (reader, waiting, front))
        _, status = os.waitpid(front, 0)
        good = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGINT
        os.tcsetpgrp(0, reader)
        os.kill(-reader, signal.SIGCONT)
        good = good and os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1]) == 3
        os.kill(-waiting, signal.SIGCONT)
        os.kill(-waiting, signal.SIGTERM)
        good = good and os.waitstatus_to_exitcode(os.waitpid(waiting, 0)[1]) == -signal.SIGTERM
        os._exit(11 if good else 12)
    text = b""
    while b"ready" not in text:
        text += os.read(master, 100)
    reader, waiting, front = map(int, text.split()[:3])
    if checkpoint():
        os.write(master, b"typed\n")
        os.kill(waiting, signal.SIGKILL)
    eventually(lambda: state(front) == "S", "the foreground job sleeps on", 30)
    assert state(reader) == "T" and state(waiting) == "T"
    assert os.tcgetpgrp(master) == front
    os.write(master, b"\x03")
    os.write(master, b"typed\n")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 11


run(main)
