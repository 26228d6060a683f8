"""A protection key and its rights in PKRU."""

from target_api import PAGE, Skip, call, checkpoint, mmap, peek, poke, run, vma


def main():
    try:
        key = call("pkey_alloc", 0, 0)
    except OSError as error:
        raise Skip(f"no protection keys: {error}") from error
    area = mmap(2 * PAGE)
    poke(area, b"locked")
    call("pkey_mprotect", area, 2 * PAGE, 3, key)
    call("pkey_set", key, 2)  # PKEY_DISABLE_WRITE
    if checkpoint():
        call("pkey_set", key, 0)
    assert vma(area)["ProtectionKey"] == str(key)
    assert call("pkey_get", key) == 2
    assert peek(area, 6) == b"locked"


run(main)
