"""A session whose leader has ended; its member is a child of this subreaper."""

import os

from target_api import checkpoint, child, exit_code, prctl, run, wait_for_go


def main():
    prctl(36, 1)
    reader, writer = os.pipe()

    def leader():
        os.setsid()
        session = os.getpid()

        def member():
            os.write(writer, b"%d %d" % (os.getpid(), session))
            wait_for_go()
            return 6 if os.getsid(0) == session and os.getpgid(0) == session else 7

        child(member)

    assert exit_code(child(leader)) == 0
    member, session = map(int, os.read(reader, 50).split())
    checkpoint()
    assert os.getsid(member) == session
    assert exit_code(member) == 6


run(main)
