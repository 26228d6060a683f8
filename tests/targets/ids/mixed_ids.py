"""Real, effective and saved ids that all differ; a child with others yet."""

import os

from target_api import Skip, checkpoint, child, exit_code, run, status, wait_for_go


def main():
    if os.getuid():
        raise Skip("needs root")

    def other():
        os.setresgid(4, 5, 6)
        os.setresuid(1, 2, 0)
        wait_for_go()
        return 0 if (os.getresuid(), os.getresgid()) == ((1, 2, 0), (4, 5, 6)) else 1

    pid = child(other)
    os.setgroups([])
    os.setresgid(10, 11, 12)
    os.setresuid(0, 21, 0)
    before = status("Uid"), status("Gid"), status("Groups"), status("CapEff"), status("CapPrm")
    if checkpoint():
        os.setresuid(0, 0, 0)
    assert os.getresuid() == (0, 21, 0) and os.getresgid() == (10, 11, 12)
    assert (status("Uid"), status("Gid"), status("Groups"), status("CapEff"), status("CapPrm")) == before
    assert exit_code(pid) == 0


run(main)
