"""A worker runs its modules as their files are when it starts, however quickly they were edited."""

import os
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest
from fake_server import SOURCE, FakeServer

# Files are edited within one second, and keep their size: what Python's own cache cannot tell.
MODIFIED_SECONDS = 1_700_000_000


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    os.utime(path, (MODIFIED_SECONDS, MODIFIED_SECONDS))


def edit(folder: Path, version: int) -> None:
    write(folder / "main_module.py", f"import helper\nfrom part import inner\n\ndef look(item): return {SEEN.format(version)}\n")
    write(folder / "helper.py", f"VERSION = {version}\n")
    write(folder / "part" / "__init__.py", f"VERSION = {version}\n")
    write(folder / "part" / "inner.py", f"from part import VERSION as OUTER\n\nVERSION = {version}\n")


SEEN = "[{}, helper.VERSION, inner.OUTER, inner.VERSION]"
# Whatever whoever runs the tests has set.
CACHES = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": ""}


def look(target, folder: Path, env: dict[str, str] | None = None):
    with FakeServer(target, env={"PYTHONPATH": f"{SOURCE}:{folder}", **CACHES, **(env or {})}) as server:
        return server.until_ready().values("look", [0])


@pytest.mark.parametrize("by_name", [False, True])
def test_quick_edits_are_seen_in_every_module(tmp_path, by_name):
    target = "main_module" if by_name else tmp_path / "main_module.py"
    for version in range(5):
        edit(tmp_path, version)
        assert look(target, tmp_path) == [[version] * 4]
    # And what was not edited is what it was.
    assert look(target, tmp_path) == [[version] * 4]


def test_what_plain_python_has_cached_is_not_believed(tmp_path):
    edit(tmp_path, 1)
    for path in tmp_path.rglob("*.py"):
        py_compile.compile(str(path), doraise=True)
    edit(tmp_path, 2)
    assert look(tmp_path / "main_module.py", tmp_path) == [[2] * 4]


def test_plain_python_reads_what_the_worker_has_cached(tmp_path):
    """Such as a process that a function starts by multiprocessing."""
    edit(tmp_path, 1)
    assert look(tmp_path / "main_module.py", tmp_path) == [[1] * 4]
    edit(tmp_path, 2)
    seen = subprocess.run(
        [sys.executable, "-c", "import main_module; print(main_module.look(0))"],
        cwd=tmp_path,
        env={**os.environ, **CACHES},
        check=True,
        capture_output=True,
        text=True,
    )
    assert seen.stdout == "[2, 2, 2, 2]\n"


@pytest.mark.parametrize("rubbish", [b"", b"rubbish", "cut short"])
def test_a_cache_that_is_rubbish_is_made_anew(tmp_path, rubbish):
    edit(tmp_path, 1)
    assert look(tmp_path / "main_module.py", tmp_path) == [[1] * 4]
    caches = list(tmp_path.rglob("*.pyc"))
    assert len(caches) == 4
    for path in caches:
        path.write_bytes(path.read_bytes()[:30] if rubbish == "cut short" else rubbish)
    assert look(tmp_path / "main_module.py", tmp_path) == [[1] * 4]


def test_nothing_is_written_where_nobody_wants_it(tmp_path):
    edit(tmp_path, 1)
    assert look(tmp_path / "main_module.py", tmp_path, {"PYTHONDONTWRITEBYTECODE": "1"}) == [[1] * 4]
    assert not list(tmp_path.rglob("*.pyc"))


def test_tracebacks_name_the_files_where_they_are_now(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    write(old / "moved.py", "def fail(item): raise ValueError(item)\n")
    with FakeServer(old / "moved.py", env=CACHES) as server:
        server.until_ready()
    old.rename(new)
    with FakeServer(new / "moved.py", env=CACHES) as server:
        failure = server.until_ready().run("fail", [1]).failures[0]
        assert str(new / "moved.py") in failure.traceback
