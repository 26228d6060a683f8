"""What an engine calls for sockets, terminals and segments beside the files themselves, and when."""

from __future__ import annotations

from collections.abc import Callable

from ckpt.records.seams import RemoteTask
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import tcp, tty, unix
from ckpt.state.sysv import finish_sysv


def check(context: CollectContext) -> None:
    """Dump, when every file is collected and before refusals are raised: what needs to know all of them."""
    unix.finish_unix(context)
    tcp.finish_tcp(context)
    tty.collect_ptys(context)


def release(context: CollectContext) -> None:
    """Dump, before the tree is thawed to go on or left stopped, also after a failure: connections work again."""
    tcp.release_connections(context)


def keep(context: CollectContext) -> None:
    """Dump, when the tree is killed and before `context.stack` closes: connections to the outside stay, held."""
    tcp.keep_connections(context)


def finish(context: RestoreContext, remote: Callable[[int], RemoteTask]) -> None:
    """Restore, when every task has its files, memory and process group; `remote` gives a task by its pid."""
    tty.finish_terminals(context, remote)
    finish_sysv(context)


def done(context: RestoreContext) -> None:
    """Restore, last of all, when nothing can fail any more: who held connections since the dump may end."""
    tcp.finish_connections(context)
