"""A shell with a loop in a pipeline."""

import subprocess

from target_api import DIR, checkpoint, eventually, run

SCRIPT = """
i=0
while [ $i = 0 -o ! -e go ]; do i=$((i+1)); echo $i; : > counts; sleep 0.02; done | tail -n 1 > last
echo end
exit 5
"""


def main():
    with subprocess.Popen(["sh", "-c", SCRIPT], stdout=subprocess.PIPE) as process:
        eventually((DIR / "counts").exists, "the loop runs")
        if checkpoint():
            process.kill()
        assert process.stdout.read() == b"end\n"
    assert process.returncode == 5
    assert int((DIR / "last").read_text()) > 0


run(main)
