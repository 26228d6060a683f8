"""Descriptor tables handed to a real skeleton, whose scratch is small and whose calls go through ptrace."""

from __future__ import annotations

import os
import resource

import pytest
from files_roundtrip import Image, Target, collected, files_of

from ckpt.state.context import RestoreContext
from ckpt.state.files import restore
from ckpt.trace.skeleton import reap
from ckpt.trace.spawn import spawn_skeleton

pytestmark = pytest.mark.root

CODE = """
import select
for n in range(20, 620): os.dup2(0, n, inheritable=bool(n % 50))
for n in range(20, 620, 3): os.close(n)
e = select.epoll(); a = os.eventfd(3); os.dup2(a, 700); e.register(700, select.EPOLLIN)
os.dup2(a, 701); os.close(700); os.dup2(e.fileno(), 710)
os.dup2(a, 711); e.register(711, select.EPOLLIN); os.close(711)  # closed, and above all that is open
import fcntl
f = open(sys.argv[1], "w"); fcntl.lockf(f, fcntl.LOCK_EX)
"""


def test_a_real_skeleton_gets_its_table(tmp_path):
    target = Target(CODE, str(tmp_path / "locked"))
    try:
        context, tables = collected([target.pid])
        with context.stack:
            assert not context.refusals
    finally:
        target.close()
    before = files_of(context, tables[0])
    image = Image([*context.records, *tables])
    restoring = RestoreContext(image, frozenset({target.pid}))
    with restoring.stack:
        channel = restore.make_channel(restoring)
        skeleton = spawn_skeleton(target.pid, 0x10000000, channel)
        try:
            restore.open_files(restoring)
            resource.prlimit(skeleton.pid, resource.RLIMIT_NOFILE, (30, channel + 1))
            restore.install_table(restoring, skeleton, tables[0], channel)
            assert resource.prlimit(skeleton.pid, resource.RLIMIT_NOFILE) == (30, channel + 1)
            restore.close_files(restoring)
            again, new_tables = collected([target.pid])
            with again.stack:
                assert not again.refusals
                assert new_tables[0].table_id == target.pid
                assert [(d.fd, d.cloexec) for d in new_tables[0].fds] == [(d.fd, d.cloexec) for d in tables[0].fds]
                after = files_of(again, new_tables[0])
                for fd in before:
                    assert (before[fd].kind, before[fd].flags) == (after[fd].kind, after[fd].flags)
                assert sorted(w.tfd for w in after[710].payload.watches) == [700, 711]
                assert [r.kind for r in again.records if r.RECORD_NAME == "file-lock"] == ["posix"]
        finally:
            skeleton.kill()
            reap([skeleton])
    assert not os.path.exists(f"/proc/{target.pid}")
