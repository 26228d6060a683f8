"""SEM_UNDO of several tasks on the same semaphores: what each one's end undoes, and where all come to nothing."""

import ctypes

from target_api import DIR, Skip, call, checkpoint, child, eventually, exit_code, libc, publish, run

IPC_PRIVATE, IPC_CREAT, IPC_RMID, GETVAL, SETVAL, SEM_UNDO = 0, 0o1000, 0, 12, 16, 0x1000
BEFORE = (10, 20, 7, 0)
CHANGES = ((-1, 4, 2, 3), (-2, -4, 0, 0), (-3, 5, -2, 0))  # of each task


class Operation(ctypes.Structure):
    _fields_ = [("number", ctypes.c_ushort), ("change", ctypes.c_short), ("flags", ctypes.c_short)]


def change(semid, number, by):
    call("semop", semid, ctypes.byref(Operation(number, by, SEM_UNDO)), 1)


def use(semid, task):
    for number, by in enumerate(CHANGES[task]):
        if by:
            change(semid, number, by)
    publish(f"did{task}", "")
    eventually(lambda: (DIR / f"end{task}").exists(), seconds=3000)


def target():
    try:
        semid = call("semget", IPC_PRIVATE, len(BEFORE), IPC_CREAT | 0o600)
    except OSError as error:
        raise Skip(f"no SysV semaphores: {error}") from None
    for number, value in enumerate(BEFORE):
        assert libc.semctl(semid, number, SETVAL, value) == 0
    tasks = [child(use, semid, task) for task in range(len(CHANGES))]
    eventually(lambda: all((DIR / f"did{task}").exists() for task in range(len(CHANGES))))

    def values():
        return [libc.semctl(semid, number, GETVAL) for number in range(len(BEFORE))]

    want = [value + sum(by) for value, by in zip(BEFORE, zip(*CHANGES, strict=True), strict=True)]
    checkpoint()
    assert values() == want, (values(), want)
    for task in (1, 2, 0):
        publish(f"end{task}", "")
        assert exit_code(tasks[task]) == 0
        want = [value - by for value, by in zip(want, CHANGES[task], strict=True)]
        assert values() == want, (task, values(), want)
    assert libc.semctl(semid, 0, IPC_RMID) == 0


run(target)
