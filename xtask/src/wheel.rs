//! Builds the Python package as a wheel, as `pip install ./python` does, and tests what is in it: in an environment of its
//! own, which has nothing of the source tree.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::command::{command, root, run};
use crate::tools::Tools;

/// What the tests need besides the package.
const TEST_PACKAGES: [&str; 4] = ["grpcio-tools==1.71.2", "numpy==2.2.6", "pytest==8.4.2", "pytest-timeout==2.4.0"];

/// Builds the wheel, installs it, and runs the tests of the pool with it.
///
/// # Errors
///
/// If it can't be built or installed, or a test fails.
pub(crate) fn test(tools: &Tools) -> Result<()> {
    let wheel = build(&tools.python(), &root().join("target/wheels"))?;
    let venv = root().join("target/venv-wheel");
    run(command("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let python = venv.join("bin/python");
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(command(&python).args(install).args(TEST_PACKAGES).arg(wheel))?;
    let pytest = ["-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "--timeout=120", "python/tests/pool"];
    run(command("timeout").args(["--kill-after=10s", "10m"]).arg(python).args(pytest).env("PROCPOOL_INSTALLED", "1"))
}

/// Builds the wheel in a folder; returns its path.
fn build(python: &Path, folder: &Path) -> Result<std::path::PathBuf> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    let wheel = ["-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--wheel-dir"];
    run(command(python).args(wheel).arg(folder).arg(root().join("python")))?;
    let built = std::fs::read_dir(folder)?.next().context("pip wheel has built nothing")??;
    Ok(built.path())
}
