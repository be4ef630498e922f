"""`procpool demo`, the README's first command."""

import subprocess

from conftest import PROCPOOL, ROOT


def test_the_demo_runs_to_the_end_and_leaves_nothing():
    done = subprocess.run([PROCPOOL, "demo"], cwd=ROOT, capture_output=True, text=True, timeout=100)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    for match in range(1, 11):
        assert f"Result for Match #{match}: Analysis Clear" in printed
    results = [line for line in done.stdout.splitlines() if "Analysis Clear" in line]
    assert [int(line.split("#")[1].split(":")[0]) for line in results][:10] == list(range(1, 11)), "in order"
