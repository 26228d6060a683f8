"""Reserved huge pages for tests: taken on demand, and what the machine allowed before is allowed again."""

import fcntl
from contextlib import ExitStack, contextmanager
from pathlib import Path

HUGE = 2 << 20
_ALLOWED = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages")


def _allow(more):
    with _ALLOWED.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # others read and write it, too
        allowed = int(file.read()) + more
        file.seek(0)
        file.write(str(allowed))


@contextmanager
def raised(count):
    """Let `count` more huge pages be taken beyond the pool; OSError where that cannot be."""
    _allow(count)
    try:
        yield
    finally:
        _allow(-count)  # not what was before: another test may have allowed some meanwhile


@contextmanager
def allowed(count):
    """The same for a target, which is skipped where that cannot be."""
    from target_api import Skip

    with ExitStack() as stack:
        try:
            stack.enter_context(raised(count))
        except OSError as error:
            raise Skip(f"no huge pages: {error}") from error
        yield
