"""Builds the package: maturin makes the wheel with the native module, and here the program `procpool` is put into it.

maturin builds either a module or a program, and takes as the second whatever lies in the data folder when it begins. The
program is linked statically, so that it runs on every Linux: nobody checks that of it, as maturin does of the module.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import maturin
from maturin import get_requires_for_build_editable, get_requires_for_build_sdist, get_requires_for_build_wheel

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

_HERE = Path(__file__).parent.parent
_SCRIPTS = _HERE / "procpool.data" / "scripts"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Build a wheel."""
    _build_program()
    return maturin.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    """Build a wheel that leads to the files here."""
    _build_program()
    return maturin.build_editable(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory, config_settings=None):
    """Build an archive of the sources."""
    _SCRIPTS.mkdir(parents=True, exist_ok=True)
    return maturin.build_sdist(sdist_directory, config_settings)


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    """Write what pip wants to know before it builds."""
    _SCRIPTS.mkdir(parents=True, exist_ok=True)
    return maturin.prepare_metadata_for_build_wheel(metadata_directory, config_settings)


prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel


def _build_program() -> None:
    target = f"{os.uname().machine}-unknown-linux-gnu"
    flags = f"{os.environ.get('RUSTFLAGS', '')} -C target-feature=+crt-static".strip()
    # Cargo keeps what it builds for a named target apart: the flags of others rebuild nothing here.
    cargo = ["cargo", "build", "--release", "--locked", "-p", "procpool-cli", "--bin", "procpool", "--target", target]
    subprocess.run(cargo, cwd=_HERE, env={**os.environ, "RUSTFLAGS": flags}, check=True)
    folder = os.environ.get("CARGO_TARGET_DIR") or _target_directory()
    _SCRIPTS.mkdir(parents=True, exist_ok=True)
    shutil.copy2(Path(folder) / target / "release" / "procpool", _SCRIPTS / "procpool")


def _target_directory() -> str:
    metadata = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    import json

    return json.loads(subprocess.run(metadata, cwd=_HERE, check=True, capture_output=True).stdout)["target_directory"]
