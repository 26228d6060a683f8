"""What the kernel's memory tells of a thread, against what the thread is told when it can be asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckpt.errors import Unsupported
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import uapi
from ckpt.kernel.held import look
from ckpt.state import asked, signals, timers
from ckpt.trace.freezer import freeze
from ckpt.trace.vforks import HeldRemote, child_of

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

SLEEPER = """
import signal, time
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGRTMIN + 1])
signal.raise_signal(signal.SIGTERM)
signal.setitimer(signal.ITIMER_REAL, 1000, 7)
print("ready", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def sleeper() -> Iterator[int]:
    if os.geteuid() != 0:
        pytest.skip("needs root: run as root")
    process = subprocess.Popen([sys.executable, "-S", "-c", SLEEPER], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stdout is not None and process.stdout.readline()
    end = time.monotonic() + 60
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        assert time.monotonic() < end
        time.sleep(0.01)
    yield process.pid
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_kernels_memory_agrees_with_ptrace_and_the_thread(sleeper: int) -> None:
    assert child_of(sleeper, sleeper) == 0
    try:
        held = HeldRemote(sleeper, sleeper, lambda: remote)  # itself, for what a thread has from its creator
        seen = look(sleeper, sleeper)
    except Unsupported as error:
        pytest.skip(str(error))
    with freeze(sleeper, timeout=60) as tree:
        gpr = ptrace.getregset(sleeper, uapi.NT_PRSTATUS)
        xstate = ptrace.getregset(sleeper, uapi.NT_X86_XSTATE)
        remote = tree.tasks[sleeper].remote()
        status = {"SigPnd": f"{1 << signal.SIGTERM - 1:x}", "ShdPnd": "0"}
        assert signals.collect_sigactions(held) == signals.collect_sigactions(remote)
        assert asked.ask(held) == asked.ask(remote)
        assert signals.collect_pending(held, status, shared=False) == signals.collect_pending(
            remote, status, shared=False
        )
        (mine,), (theirs,) = timers.collect_itimers(held), timers.collect_itimers(remote)
        assert mine.interval_us == theirs.interval_us == 7_000_000
        assert 0 <= mine.value_us - theirs.value_us < 60_000_000
        assert seen.rseq == ptrace.get_rseq_configuration(sleeper)
    rax = 10 * 8  # the result: not there yet while the call lasts
    assert seen.gpr[:rax] + seen.gpr[rax + 8 : 23 * 8] == gpr[:rax] + gpr[rax + 8 : 23 * 8]
    assert seen.xstate == xstate
