"""Resource limits, soft and hard."""

import resource

from target_api import checkpoint, run

NAMES = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]


def main():
    wanted = {
        resource.RLIMIT_CORE: (0, 4096),
        resource.RLIMIT_NOFILE: (97, 333),
        resource.RLIMIT_FSIZE: (1 << 30, 1 << 31),
        resource.RLIMIT_STACK: (4 << 20, 16 << 20),
        resource.RLIMIT_NICE: (0, 0),
        resource.RLIMIT_CPU: (7200, 7300),
    }
    for name, pair in wanted.items():
        resource.setrlimit(name, pair)
    before = {name: resource.getrlimit(name) for name in NAMES}
    if checkpoint():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    assert {name: resource.getrlimit(name) for name in NAMES} == before
    assert all(before[name] == pair for name, pair in wanted.items())


run(main)
