"""What else is known of zombies: that they dumped core, whose they were, what they were called."""

import os
import resource
import signal
import tempfile
from pathlib import Path

from target_api import DIR, call, checkpoint, child, eventually, run, state, status


def dumps(number, uid=0):
    def end():
        resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))
        room = tempfile.mkdtemp(dir=DIR)
        os.chmod(room, 0o777)
        os.chdir(room)
        if uid:
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            call("prctl", 4, 1, 0, 0, 0)
        Path("/proc/self/comm").write_text("dumped")
        os.kill(os.getpid(), number)

    return child(end)


def facts(pid):
    info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return info.si_code, info.si_status, info.si_uid, status("Name", pid), status("Uid", pid), status("Gid", pid)


def main():
    plain = child(lambda: 3)
    pids = [plain, dumps(signal.SIGSEGV), dumps(signal.SIGABRT), dumps(signal.SIGABRT, 1234), dumps(signal.SIGTERM)]
    for pid in pids:
        eventually(lambda pid=pid: state(pid) == "Z", "dead")
    files = sorted(DIR.glob("*/*"))
    before = [facts(pid) for pid in pids]
    assert before[1][3] == "dumped" and before[3][2] == 1234
    # Where the kernel hands cores to a program, only the flag may be lost.
    named = not Path("/proc/sys/kernel/core_pattern").read_text().startswith("|")
    if checkpoint():
        os.waitpid(pids[0], 0)
    for pid, was in zip(pids, before, strict=True):
        now = facts(pid)
        assert now[3:] == was[3:] and now[1:3] == was[1:3], (was, now)
        assert now[0] == was[0] or not named, (was, now)
    assert sorted(DIR.glob("*/*")) == files
    if named:
        assert [os.WCOREDUMP(os.waitpid(pid, 0)[1]) for pid in pids] == [False, True, True, True, False]


run(main)
