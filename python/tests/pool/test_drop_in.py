"""Programs that were written for multiprocessing run with their import line changed."""

import os
import subprocess
import sys
from pathlib import Path

MATCHES = Path(__file__).parent / "matches_for_multiprocessing.py"
IMPORT = "from multiprocessing import Pool"


def run(source: str, file: Path) -> str:
    file.write_text(source)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ten_matches(tmp_path):
    source = MATCHES.read_text()
    assert source.count(IMPORT) == 1
    before = run(source, tmp_path / "before.py")
    after = run(source.replace(IMPORT, "from procpool import Pool"), tmp_path / "after.py")
    # What several processes print with multiprocessing may be torn.
    results = [line for line in before.splitlines() if line and not line.startswith("Analyzing")]
    assert len(results) == 15
    assert [line for line in after.splitlines() if not line.startswith("Analyzing")] == results
    announced = [line for line in after.splitlines() if line.startswith("Analyzing")]
    assert sorted(announced) == sorted(f"Analyzing match #{match}" for match in range(1, 11))


def test_what_multiprocessing_cannot_send(tmp_path):
    source = """
from procpool import Pool


class Game:
    def __init__(self, number):
        self.number = number

    def __eq__(self, other):
        return isinstance(other, Game) and self.number == other.number


def main():
    factor = 3

    class Local(Game):
        pass

    with Pool(2) as pool:
        print(pool.map(lambda number: number * factor, range(4)))
        print(pool.map(lambda function: function(5), [lambda n: n + 1, lambda n: n * factor]))
        print([type(game) is Game for game in pool.map(Game, range(2))])
        print(pool.map(lambda game: game == Local(1), [Local(0), Local(1)]))
        print([type(game) is Local for game in pool.map(Local, range(2))])


if __name__ == "__main__":
    main()
"""
    assert run(source, tmp_path / "closures.py").splitlines() == [
        "[0, 3, 6, 9]",
        "[6, 15]",
        "[True, True]",
        "[False, True]",
        "[True, True]",
    ]
