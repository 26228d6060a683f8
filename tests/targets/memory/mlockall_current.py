"""mlockall(MCL_CURRENT): what is there is locked, what comes is not."""

from target_api import PAGE, Skip, call, checkpoint, mmap, run, status, vma


def main():
    try:
        call("mlockall", 1)
    except OSError as error:
        raise Skip("mlockall is not allowed") from error
    before = int(status("VmLck").split()[0])
    if checkpoint():
        call("munlockall")
    assert int(status("VmLck").split()[0]) >= before > 0
    area = mmap(1024 * PAGE)
    assert "lo" not in vma(area)["VmFlags"].split()


run(main)
