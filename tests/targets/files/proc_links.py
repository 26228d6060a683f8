"""O_PATH of the links in /proc: a descriptor's, a child's, a thread's, those of the program and of a zombie."""

import os

from target_api import checkpoint, child, eventually, exit_code, forever, run, state

LINK = os.O_PATH | os.O_NOFOLLOW


def main():
    reader, writer = os.pipe()
    pid, dead = child(forever), child(lambda: 0)
    eventually(lambda: state(dead) == "Z")
    me = os.getpid()
    own = [f"{me}/fd/{reader}", f"{pid}/fd/{writer}", f"{me}/task/{me}/fd/{writer}"]
    names = [*own, f"{me}/exe", f"{me}/root", "self"]
    links = {name: os.open(f"/proc/{name}", LINK) for name in names}
    links["self/ns/uts"] = os.open("/proc/self/ns/uts", LINK)
    of_dead = os.open(f"/proc/{dead}/cwd", LINK)
    before = {name: os.readlink("", dir_fd=fd) for name, fd in links.items() if "/fd/" not in name}
    if checkpoint():
        os.close(reader)
    for name, target in before.items():
        assert os.readlink("", dir_fd=links[name]) == target, name
    for name in own:
        assert os.readlink("", dir_fd=links[name]) == f"pipe:[{os.fstat(reader).st_ino}]", name
        assert os.readlink(f"/proc/self/fd/{links[name]}") == f"/proc/{name}"
    assert os.readlink(f"/proc/self/fd/{of_dead}") == f"/proc/{dead}/cwd"
    assert exit_code(dead) == 0
    os.kill(pid, 9)


run(main)
