"""bash with jobs, a Python prompt with a line begun, and vim, each on a terminal that this program holds."""

import os
import pty
import re
import select
import shutil
import sys

from target_api import DIR, checkpoint, eventually, exit_code, run


class Screen:
    def __init__(self, *command):
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.environ.update(PS1="$ ", TERM="xterm", HOME=str(DIR))
            os.execvp(command[0], command)
        self.text = b""

    def type(self, text):
        os.write(self.master, text)

    def until(self, pattern):
        while not (match := re.search(pattern, self.text)):
            assert select.select([self.master], [], [], 60)[0], (pattern, self.text)
            self.text += os.read(self.master, 65536)
        self.text = self.text[match.end() :]

    def end(self):
        try:
            while os.read(self.master, 65536):
                pass
        except OSError:
            pass
        return exit_code(self.pid)


def main():
    shell = Screen("bash", "--norc", "--noprofile", "-i")
    shell.until(rb"\$ ")
    shell.type(b"value=41; sleep 1000 & sleep 2000\n")
    shell.until(rb"\[1\] \d+\r\n")
    eventually(lambda: os.tcgetpgrp(shell.master) != shell.pid)
    shell.type(b"\x1a")
    shell.until(rb"Stopped.*\r\n.*\$ ")
    python = Screen(sys.executable, "-q", "-S", "-E")
    python.until(rb">>> ")
    python.type(b"x = 6\n")
    python.until(rb">>> ")
    python.type(b"print(x * ")
    python.until(rb"\* ")
    editor = None
    if shutil.which("vim"):
        editor = Screen("vim", "-u", "NONE", "-n", str(DIR / "text"))
        editor.type(b"i")
        editor.until(rb"INSERT")
        editor.type(b"before")
        editor.until(rb"(?s)b.*e.*f.*o.*r.*e")  # drawn in pieces, perhaps
    if checkpoint():
        (DIR / "text").write_text("something else")
        shell.type(b"value=0\n")
    shell.type(b"echo is $((value + 1)); jobs\n")
    shell.until(rb"is 42\r\n")
    shell.until(rb"Running.*sleep 1000")
    shell.until(rb"Stopped.*sleep 2000")
    shell.type(b"fg %2\n")
    shell.until(rb"sleep 2000\r\n")
    shell.type(b"\x03")
    shell.until(rb"\$ ")
    shell.type(b"kill %1; exit 7\n")
    assert shell.end() == 7
    python.type(b"7)\n")
    python.until(rb"\n42\r\n")
    python.type(b"\x04")
    assert python.end() == 0
    if editor:
        editor.type(b" and after\x1b:wq\n")
        assert editor.end() == 0
        assert (DIR / "text").read_text() == "before and after\n"


run(main)
