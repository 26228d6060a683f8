"""Open files without a target: fdinfo texts, ioctl numbers, and records through the image's codec. No ptrace."""

from __future__ import annotations

import os
import socket

from ckpt.image.codec import decode_record, encode_record
from ckpt.kernel import fdinfo, uapi_files
from ckpt.records import file_kinds
from ckpt.records.files import FileRecord
from ckpt.state.files.kinds import BY_NAME, KINDS
from ckpt.state.files.restore import BATCH

TIMERFD = """pos:\t0
flags:\t02004002
mnt_id:\t15
clockid: 1
ticks: 3
settime flags: 01
it_value: (0, 49406829)
it_interval: (1, 0)
"""


def test_fdinfo_keeps_every_line():
    info = fdinfo.parse(TIMERFD + "tfd: 1 events: 19 data: 3  pos:0 ino:1 sdev:2\ntfd: 2 events: 1 data: 4\n")
    assert info["settime flags"] == ["01"]
    assert info["it_value"] == ["(0, 49406829)"]
    assert info["tfd"] == ["1 events: 19 data: 3  pos:0 ino:1 sdev:2", "2 events: 1 data: 4"]


def test_reading_ones_own_descriptor():
    fd = os.open("/dev/null", os.O_RDWR | os.O_APPEND)
    try:
        entry = fdinfo.read_fd(os.getpid(), fd)
        assert (entry.link, entry.pos, entry.cloexec) == ("/dev/null", 0, True)
        assert entry.flags & ~uapi_files.O_LARGEFILE == os.O_RDWR | os.O_APPEND
        assert fd in fdinfo.numbers(os.getpid())
    finally:
        os.close(fd)


def test_numbers_that_the_kernel_pins():
    assert 1 << 30 | 8 << 16 | ord("T") << 8 == uapi_files.TFD_IOC_SET_TICKS
    assert uapi_files.EP_PRIVATE_BITS == 0xF << 28
    assert uapi_files.O_TMPFILE_BIT | os.O_DIRECTORY == os.O_TMPFILE


def test_every_kind_has_its_own_name():
    assert len(BY_NAME) == len(KINDS)


def test_payloads_survive_an_image():
    payloads = [
        file_kinds.NoPayload(),
        file_kinds.PathFile(os.fsdecode(b"/tmp/\xff"), 0o100644, 1 << 40, 2**63 - 1),
        file_kinds.GhostFile("1:2", True),
        file_kinds.PipeEnd("1:2"),
        file_kinds.EventFd(2**64 - 2, True),
        file_kinds.TimerFd(1, 2, 3, 4, 5, 6),
        file_kinds.SignalFd(2**64 - 1),
        file_kinds.EpollFile(1, 2, (file_kinds.EpollWatch(3, 4, 2**32 - 1, 2**64 - 1, False),)),
        file_kinds.InotifyFile((file_kinds.InotifyWatch(1, "/x", 2),)),
        file_kinds.PidFd(1, 2),
        file_kinds.NamespaceFile("net"),
        file_kinds.MemfdFile("shm:1:2"),
    ]
    for payload in payloads:
        record = FileRecord(1, "kind", 0, 0, payload)
        assert decode_record(encode_record(record), "test") == record


def test_the_largest_batch_fits_the_smallest_scratch_buffer():
    assert 80 + socket.CMSG_LEN(4 * BATCH) <= 2048
    assert BATCH <= uapi_files.SCM_MAX_FD
