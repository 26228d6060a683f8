"""A filter program between two pipes, with a line on its way."""

import subprocess

from target_api import checkpoint, run


def main():
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b"before\n")
        process.stdin.flush()
        if checkpoint():
            process.stdout.readline()
            process.kill()
        assert process.stdout.readline() == b"before\n"
        process.stdin.write(b"after\n")
        process.stdin.close()
        assert process.stdout.read() == b"after\n"
    assert process.returncode == 0


run(main)
