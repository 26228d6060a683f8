"""The records of address spaces and of shared memory objects."""

from __future__ import annotations

from dataclasses import dataclass

from ckpt.records.base import record
from ckpt.records.state import NumaPolicy


@dataclass(frozen=True, slots=True)
class Vma:
    """One mapping as in /proc/PID/smaps; addresses in bytes, `end` exclusive."""

    start: int
    end: int
    prot: int  # PROT_*
    shared: bool
    pgoff: int  # bytes into the file or the shared object
    name: str  # the path column of maps: "", "[heap]", "[stack]", "[vdso]", "/usr/lib/…", "[anon:…]"
    dev: int = 0  # st_dev of the file; 0 for anonymous memory
    ino: int = 0
    vm_flags: tuple[str, ...] = ()  # the two-letter VmFlags of smaps
    backing: str = "anon"  # anon | file | shm (a shared memory object in the image) | special (vdso, vvar, vsyscall)
    shm: str | None = None  # the space key of the shared memory object when backing is shm
    file_id: int | None = None  # the FileRecord to map when backing is file
    file_size: int = 0  # of the file at the dump
    file_mtime_ns: int = 0
    huge_page: int = 0  # bytes of a page of hugetlbfs, 0 of an ordinary mapping
    policy: NumaPolicy | None = None  # mbind
    pkey: int = 0  # protection key


@record("mm")
class MmRecord:
    """One address space: its mappings and the fields that PR_SET_MM_MAP restores."""

    mm_id: int  # pid of the first task that uses it
    space: str  # the space key of its pages: "mm:<mm_id>"
    vmas: tuple[Vma, ...]
    start_code: int = 0
    end_code: int = 0
    start_data: int = 0
    end_data: int = 0
    start_brk: int = 0
    brk: int = 0
    start_stack: int = 0
    arg_start: int = 0
    arg_end: int = 0
    env_start: int = 0
    env_end: int = 0
    auxv: bytes = b""
    exe: str = ""
    exe_file_id: int | None = None
    thp_disable: int = 0  # PR_GET_THP_DISABLE: 1, or 3 for all but advised memory
    dumpable: int = 1
    vdso_hash: bytes = b""  # of the vdso's bytes: another kernel's vdso is refused
    membarrier: int = 0  # MEMBARRIER_CMD_GET_REGISTRATIONS
    lock_future: int = 0  # MCL_FUTURE, MCL_ONFAULT: how new mappings are locked
    merge_any: bool = False  # PR_SET_MEMORY_MERGE
    ldt: bytes = b""  # the segment descriptors of modify_ldt, 8 bytes each
    futex_slots: int = -1  # PR_FUTEX_HASH_GET_SLOTS of a task with threads; -1: not known
    pkeys: int = 0  # the protection keys that pkey_alloc gave, a bit each


@record("shm")
class ShmRecord:
    """One shared memory object: anonymous shared memory, a memfd or a SysV segment."""

    key: str  # space key: "shm:<dev>:<ino>", "sysv:<id>"
    size: int  # bytes
    kind: str  # anon | memfd | sysv
    name: str = ""
    seals: int = 0
    flags: int = 0  # MFD_*
    mode: int = 0o777
    file_id: int | None = None  # the FileRecord that is this object, when some descriptor has it open
    sysv_id: int = -1
    uid: int = -1  # -1: whoever restores
    gid: int = -1
    xattrs: tuple[tuple[str, bytes], ...] = ()
    atime_ns: int = -1  # -1: not known
    mtime_ns: int = -1


@record("aio")
class AioRecord:
    """One context of Linux AIO."""

    mm_id: int
    start: int  # of its ring, which is its id
    nr: int  # events that the ring holds
    head: int
    tail: int
    events: bytes  # struct io_event, from head to tail
