"""Threads that share directories and descriptor tables as any history of clones and unshares leaves them."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckpt.engine.births import Pair, births
from ckpt.kernel import uapi

PID = 100


@st.composite
def histories(draw: st.DrawFn) -> dict[int, Pair]:
    """tid -> (fs, table) of those that are left; the first thread among them."""
    fresh = iter(range(1, 1000))
    now: dict[int, Pair] = {PID: (next(fresh), next(fresh))}
    tid = PID
    for _ in range(draw(st.integers(0, 30))):
        who = draw(st.sampled_from(list(now)))
        match draw(st.sampled_from(["clone", "clone", "fs", "files", "exit"])):
            case "clone":
                tid += 1
                now[tid] = now[who]
            case "fs":
                now[who] = (next(fresh), now[who][1])
            case "files":
                now[who] = (now[who][0], next(fresh))
            case "exit" if who != PID:
                del now[who]
    return now


def carried_out(
    found: dict[int, tuple[int, int]], first: Pair, carried: int, wanted: dict[int, Pair]
) -> dict[int, Pair]:
    """What the clones give: those that keep the carried table are made before the first thread leaves it."""
    fresh = iter(range(1000, 10000))
    made = {PID: (first[0], carried or first[1])}

    def make(tid: int) -> None:
        if tid in made:
            return
        maker, shares = found[tid]
        make(maker)
        fs, table = made[maker]
        made[tid] = fs if shares & uapi.CLONE_FS else next(fresh), table if shares & uapi.CLONE_FILES else next(fresh)

    for tid in [tid for tid, pair in wanted.items() if carried and pair[1] == carried]:
        make(tid)
    made[PID] = first
    for tid in wanted:
        make(tid)
    return made


def alike(pairs: dict[int, Pair], what: int) -> set[frozenset[int]]:
    groups: dict[int, set[int]] = {}
    for tid, pair in pairs.items():
        groups.setdefault(pair[what], set()).add(tid)
    return {frozenset(group) for group in groups.values()}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories())
def test_threads_share_what_they_did(wanted: dict[int, Pair]) -> None:
    made = carried_out(births(PID, wanted), wanted[PID], 0, wanted)
    assert [alike(made, what) for what in (0, 1)] == [alike(wanted, what) for what in (0, 1)]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories(), st.data())
def test_some_keep_the_table_that_the_first_thread_leaves(wanted: dict[int, Pair], data: st.DataObject) -> None:
    """`carried` is a table that the first thread had before its last unshare."""
    near = sorted({pair[1] for tid, pair in wanted.items() if pair[0] == wanted[PID][0] and pair[1] != wanted[PID][1]})
    if not near:
        return
    carried = data.draw(st.sampled_from(near))
    if any(pair[1] == wanted[PID][1] for tid, pair in wanted.items() if tid != PID):
        return  # then it did not leave the other one last
    made = carried_out(births(PID, wanted, carried), wanted[PID], carried, wanted)
    assert [alike(made, what) for what in (0, 1)] == [alike(wanted, what) for what in (0, 1)]
