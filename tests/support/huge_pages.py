"""Reserved huge pages for tests: taken on demand, and what the machine allowed before is allowed again."""

from contextlib import contextmanager
from pathlib import Path

HUGE = 2 << 20
_ALLOWED = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages")


@contextmanager
def raised(count):
    """Let `count` more huge pages be taken beyond the pool; OSError where that cannot be."""
    before = int(_ALLOWED.read_text())
    _ALLOWED.write_text(str(before + count))
    try:
        yield
    finally:
        _ALLOWED.write_text(str(before))


@contextmanager
def allowed(count):
    """The same for a target, which is skipped where that cannot be."""
    from target_api import Skip

    manager = raised(count)
    try:
        manager.__enter__()
    except OSError as error:
        raise Skip(f"no huge pages: {error}") from error
    try:
        yield
    finally:
        manager.__exit__(None, None, None)
