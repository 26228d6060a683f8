"""A program that reads lines and passwords on a terminal made by script(1), whose other end is a pipe."""

import os
import shutil
import subprocess
import sys

from target_api import Skip, checkpoint, run

PROGRAM = """
import getpass, sys
name = input("name? ")
secret = getpass.getpass("secret? ")
print("hello", name, secret[::-1], sys.stdout.isatty())
sys.exit(8)
"""


def main():
    if not shutil.which("script"):
        raise Skip("no script")
    command = f"{sys.executable} -c '{PROGRAM}'"
    process = subprocess.Popen(
        ["script", "-q", "-e", "-c", command, "/dev/null"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    text = b""
    while b"name? " not in text:
        text += os.read(process.stdout.fileno(), 1000)
    os.write(process.stdin.fileno(), b"some")
    while not text.endswith(b"some"):
        text += os.read(process.stdout.fileno(), 1000)
    if checkpoint():
        os.write(process.stdin.fileno(), b"X")
    os.write(process.stdin.fileno(), b"body\n")
    while b"secret? " not in text:
        text += os.read(process.stdout.fileno(), 1000)
    os.write(process.stdin.fileno(), b"abc\n")
    while b"True" not in text:
        text += os.read(process.stdout.fileno(), 1000)
    assert b"hello somebody cba True" in text, text
    process.stdin.close()
    assert process.wait() == 8


run(main)
