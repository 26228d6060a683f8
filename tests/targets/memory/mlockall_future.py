"""mlockall(MCL_FUTURE) and lock-on-fault: new mappings come locked."""

from target_api import PAGE, Skip, call, checkpoint, mmap, run, status


def main():
    try:
        call("mlockall", 2 | 4)
    except OSError as error:
        raise Skip("mlockall is not allowed") from error
    mmap(16 * PAGE)
    before = int(status("VmLck").split()[0])
    if checkpoint():
        call("munlockall")
    assert int(status("VmLck").split()[0]) >= before > 0
    mmap(1024 * PAGE)
    assert int(status("VmLck").split()[0]) >= before + 4096


run(main)
