"""Real, effective, saved and filesystem ids dropped to 65534, with groups."""

import os

from target_api import Skip, checkpoint, run, status


def main():
    if os.getuid():
        raise Skip("needs root")
    os.setgroups([7, 65534, 12])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    names = ("Uid", "Gid", "Groups", "CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")
    before = {name: status(name) for name in names}
    tampered = checkpoint()
    assert {name: status(name) for name in names} == before and not tampered
    assert os.getresuid() == os.getresgid() == (65534,) * 3
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise AssertionError("root again")


run(main)
