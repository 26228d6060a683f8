"""The main job once with soft-dirty, on kernels that have it: pre-dumps, dump, verify, merge, restore."""

from __future__ import annotations

import os

import pytest

from ckpt.tracker import choice
from tests.support import harness, proc

pytestmark = [pytest.mark.root, pytest.mark.guest, pytest.mark.timeout(400)]


def test_guests_have_soft_dirty() -> None:
    """Otherwise a guest's lane would skip everything that it is for."""
    if not os.environ.get("CKPT_GUEST"):
        pytest.skip("not in a guest")
    assert choice.missing("soft-dirty") == []
    assert choice.choose("auto")[0] == "soft-dirty"


@pytest.mark.parametrize("name", ["memory/dontneed", "processes/fork_pipe"])
@pytest.mark.parametrize("tracker", ["soft-dirty"])
def test_main_job(tracker: str, name: str, request: pytest.FixtureRequest) -> None:
    if lacks := choice.missing(tracker):
        pytest.skip(lacks[0].evidence)
    target = next(target for target in harness.all_targets() if target.name == name)
    proc.become_subreaper()
    request.addfinalizer(lambda: proc.become_subreaper(False))
    with harness.running(target) as run:
        chain, merged = run.images / "chain", run.images / "merged"
        for number in range(3):
            made = run.ckpt("pre-dump", "-t", str(run.pid), "-D", str(chain), "--tracker", tracker)
            assert (made["full_reason"] is None) == (number > 0), made["full_reason"]
            assert made["tracker"] == tracker
        made = run.ckpt("dump", "-t", str(run.pid), "-D", str(chain), "--tracker", tracker)
        assert made["full_reason"] is None
        assert int(str(made["pages_skipped_parent"])) > int(str(made["pages_written"]))
        run.gone()
        run.ckpt("verify", "-D", str(chain))
        run.ckpt("merge", "-D", str(chain), "-o", str(merged))
        run.ckpt("verify", "-D", str(merged))
        run.restore(merged)
        run.expect_pass()
