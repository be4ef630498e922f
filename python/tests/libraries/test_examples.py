"""The programs in `examples/python`, run as they stand there."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent.parent.parent / "examples/python"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def needs(*modules):
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def run(name, *arguments):
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_every_example_is_run():
    tested = Path(__file__).read_text()
    assert [file.name for file in EXAMPLES.iterdir() if file.is_file() and f'"{file.name}"' not in tested] == []


def test_chess_games():
    needs("chess")
    lines = run("chess_games.py", EXAMPLES / "games.pgn")
    assert lines == run("chess_games.py")
    assert len(lines) == (EXAMPLES / "games.pgn").read_text().count('[Event "')
    assert lines[0] == "Legall de Kermeur - Saint Brie: 7 moves, 8 points behind, mate: True"


def test_grid_search():
    needs("sklearn")
    assert run("grid_search.py") == ["best: {'C': 10, 'gamma': 0.0005}, accuracy 0.908"]


def test_fit_decay():
    needs("scipy")
    assert run("fit_decay.py") == ["amplitude 5.02, rate 0.70, frequency 2.00"]


def test_sample_line():
    needs("emcee")
    assert run("sample_line.py") == ["slope 2.0, intercept 1.1", "the chain of a serial run: True"]


def test_thumbnails(tmp_path):
    needs("PIL")
    from PIL import Image

    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (800, 400), "red").save(photos / "a.png")
    (photos / "b.png").write_text("no image")
    Image.new("L", (300, 600), 7).save(photos / "c.png")
    lines = run("thumbnails.py", photos, tmp_path / "small")
    assert lines == ["a.jpg: 128 x 64", "b.png: UnidentifiedImageError", "c.jpg: 64 x 128"]
    with Image.open(tmp_path / "small/c.jpg") as thumbnail:
        assert thumbnail.size == (64, 128)


def test_notebook(monkeypatch):
    needs("nbclient", "nbformat", "ipykernel")
    import nbclient
    import nbformat

    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    written = outputs(notebook)
    assert len(written) == 3
    nbclient.NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
    assert outputs(notebook) == written


def outputs(notebook):
    return [
        output["data"]["text/plain"] if output["output_type"] == "execute_result" else output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]
