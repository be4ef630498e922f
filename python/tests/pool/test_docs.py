"""The programs in the documents, run as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent.parent

PRINTED = {
    ("README.md", "from procpool import Pool"): "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]\n",
    ("python/README.md", "from procpool import Pool"): "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]\n",
    ("docs/python.md", "from procpool import Pool"): "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]\n",
    ("docs/python.md", "import os, signal"): "[0, 1, 2, WorkerCrashedError(",
}


@pytest.mark.parametrize(("file", "beginning"), PRINTED, ids=str)
def test_a_program_prints_what_the_text_says(tmp_path, file, beginning):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / file).read_text(), re.DOTALL | re.MULTILINE)
    [program] = [block for block in blocks if block.startswith(beginning)]
    (tmp_path / "program.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(tmp_path / "program.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(PRINTED[file, beginning])
