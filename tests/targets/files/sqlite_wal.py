"""A database in WAL mode with a transaction open."""

import sqlite3

from target_api import DIR, checkpoint, run


def main():
    db = sqlite3.connect(DIR / "db", isolation_level=None)
    db.execute("pragma journal_mode=wal")
    db.execute("create table t (n integer)")
    count = 0

    def step(n):
        nonlocal count
        db.execute("insert into t values (?)", (n,))
        count += 1

    db.execute("begin immediate")
    db.execute("insert into t values (-1)")
    if checkpoint(step):
        db.execute("delete from t")
    assert db.execute("select count(*), min(n) from t").fetchone() == (count + 1, -1)
    other = sqlite3.connect(DIR / "db", timeout=0)
    assert other.execute("select count(*) from t").fetchone() == (0,)
    try:
        other.execute("begin immediate")
        raise AssertionError("the write lock is lost")
    except sqlite3.OperationalError:
        pass
    db.execute("commit")
    assert other.execute("select count(*) from t").fetchone() == (count + 1,)
    other.close()
    db.close()


run(main)
