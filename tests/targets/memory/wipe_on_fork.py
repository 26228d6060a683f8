"""MADV_WIPEONFORK and MADV_DONTFORK still decide what a later child sees."""

from target_api import PAGE, accessible, call, checkpoint, child, exit_code, mmap, peek, poke, run


def main():
    wiped, hidden = mmap(PAGE), mmap(PAGE)
    poke(wiped, b"wiped")
    poke(hidden, b"hidden")
    call("madvise", wiped, PAGE, 18)
    call("madvise", hidden, PAGE, 10)
    if checkpoint():
        call("madvise", wiped, PAGE, 19)
    assert peek(wiped, 5) == b"wiped" and peek(hidden, 6) == b"hidden"
    pid = child(lambda: 0 if peek(wiped, 5) == bytes(5) and not accessible(hidden) else 1)
    assert exit_code(pid) == 0


run(main)
