"""An interactive shell on a terminal, asked a question before and after."""

import os
import pty
import select

from target_api import checkpoint, exit_code, run


def main():
    pid, master = pty.fork()
    if pid == 0:
        os.environ["PS1"] = "$ "
        os.execvp("sh", ["sh", "-i"])
    text = b""

    def ask(line, answer):
        nonlocal text
        os.write(master, line + b"\n")
        while answer not in text:
            assert select.select([master], [], [], 60)[0], text
            text += os.read(master, 1000)

    ask(b"x=40; echo first $((x+1))", b"first 41")
    if checkpoint(same=False):
        ask(b"x=0; echo done $x", b"done 0")
        os.write(master, b"exit 4\n")
    ask(b"echo second $((x+2))", b"second 42")
    os.write(master, b"exit 3\n")
    while True:
        try:
            if not os.read(master, 1000):
                break
        except OSError:
            break
    assert exit_code(pid) == 3


run(main)
