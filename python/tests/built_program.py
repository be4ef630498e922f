"""The program procpool for tests: the one of an installed package, or else the one that was built last."""

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def use_it():
    """Makes private pools start it."""
    if "PROCPOOL_INSTALLED" not in os.environ:
        built = [path for path in [TARGET / "release/procpool", TARGET / "debug/procpool"] if path.exists()]
        assert built, "build the program first: cargo build"
        newest = max(built, key=lambda path: path.stat().st_mtime)
        os.environ.setdefault("PROCPOOL_PROGRAM", str(newest))
