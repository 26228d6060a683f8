"""A target that starts others, DIR/members says which: the tree of their trees must come back with all states."""

import json
import subprocess
from pathlib import Path

from target_api import DIR, checkpoint, eventually, prctl, run

PR_SET_CHILD_SUBREAPER = 36


def main():
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    members = json.loads((DIR / "members").read_text())
    places = [Path(member["work"]) for member in members]
    for member, place in zip(members, places, strict=True):
        with (place / "log").open("ab") as log:
            subprocess.Popen(
                member["command"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=member["environment"],
                cwd=place,
            ).returncode = 0  # nobody waits for it
    eventually(lambda: all((place / "ready").exists() or (place / "verdict").exists() for place in places), "all ready")
    checkpoint()
    for place in places:
        (place / "go.part").write_text("go")
        (place / "go.part").rename(place / "go")
    eventually(lambda: all((place / "verdict").exists() for place in places), "all verdicts", 50)


run(main)
