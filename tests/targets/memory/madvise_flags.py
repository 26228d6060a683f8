"""The lasting advice on mappings is in VmFlags afterwards too."""

from target_api import PAGE, call, checkpoint, mmap, poke, run, vma

ADVICE = {"dontfork": 10, "dontdump": 16, "nohugepage": 15, "hugepage": 14, "wipeonfork": 18, "random": 1, "seq": 2}


def main():
    areas = {}
    for name, advice in ADVICE.items():
        areas[name] = mmap(4 * PAGE) + 0
        mmap(PAGE, 0)  # keeps the neighbours from merging
        poke(areas[name], name.encode())
        call("madvise", areas[name], 4 * PAGE, advice)
    drop = {"sd", "uw", "um"}  # marks of trackers
    before = {name: set(vma(area)["VmFlags"].split()) - drop for name, area in areas.items()}
    if checkpoint():
        call("madvise", areas["dontdump"], 4 * PAGE, 17)
    for name, area in areas.items():
        assert set(vma(area)["VmFlags"].split()) - drop == before[name], name


run(main)
