"""mlockall(MCL_FUTURE | MCL_ONFAULT) of a task whose limit of address space has no room for one page more."""

import resource

from target_api import PAGE, call, checkpoint, mmap, run, status, vma

MCL_FUTURE, MCL_ONFAULT = 2, 4


def main():
    room = mmap(64 * PAGE)
    call("mlockall", MCL_FUTURE | MCL_ONFAULT)
    call("mprotect", mmap(16 * PAGE), PAGE, 0)
    size = int(status("VmSize").split()[0]) << 10
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
    filled = 0
    while True:  # what the interpreter has freed may be taken again
        try:
            filled += 1
            mmap(PAGE)
        except OSError:
            break
    tampered = checkpoint(same=False)
    call("munmap", room, 64 * PAGE)
    if tampered:
        call("munlockall")
    flags = vma(mmap(PAGE))["VmFlags"].split()
    assert "lo" in flags and "lf" in flags, flags


run(main)
