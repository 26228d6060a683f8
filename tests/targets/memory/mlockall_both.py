"""mlockall(MCL_CURRENT | MCL_FUTURE): new mappings come locked and full, in the child not at all."""

from target_api import PAGE, Skip, call, checkpoint, child, exit_code, mmap, run, status, vma


def main():
    try:
        call("mlockall", 1 | 2)
    except OSError as error:
        raise Skip("mlockall is not allowed") from error
    if checkpoint():
        call("munlockall")
    area = mmap(64 * PAGE)
    flags = vma(area)["VmFlags"].split()
    assert "lo" in flags and "lf" not in flags, flags
    assert vma(area)["Rss"] == vma(area)["Size"]
    assert exit_code(child(lambda: status("VmLck") != "0 kB")) == 0


run(main)
