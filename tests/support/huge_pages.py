"""Reserved huge pages for targets: taken on demand, and what the machine allowed before is allowed again."""

from contextlib import contextmanager
from pathlib import Path

from target_api import Skip

HUGE = 2 << 20
_ALLOWED = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages")


@contextmanager
def allowed(count):
    """Let `count` more huge pages be taken beyond the pool."""
    try:
        before = int(_ALLOWED.read_text())
        _ALLOWED.write_text(str(before + count))
    except OSError as error:
        raise Skip(f"no huge pages: {error}") from error
    try:
        yield
    finally:
        _ALLOWED.write_text(str(before))
