//! Builds the Python package as a wheel, as `pip install ./python` does, and tests what is in it: in an environment of its
//! own, which has nothing of the source tree.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::command::{command, root, run};
use crate::tools::Tools;

/// What the tests need besides the package.
const TEST_PACKAGES: [&str; 4] = ["grpcio-tools==1.71.2", "numpy==2.4.6", "pytest==8.4.2", "pytest-timeout==2.4.0"];
/// What the package is used with, and the examples use.
const LIBRARIES: [&str; 11] = [
    "chess==1.11.2",
    "dask==2026.8.0",
    "emcee==3.1.6",
    "ipykernel==7.4.0",
    "joblib==1.6.0",
    "nbclient==0.11.0",
    "nbformat==5.11.1",
    "pillow==13.0.0",
    "scikit-learn==1.9.1",
    "scipy==1.17.1",
    "tqdm==4.70.1",
];

/// Builds the wheel, installs it, and runs the tests of the pool and of what it is used with.
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
    run(command(&python).args(install).args(TEST_PACKAGES).args(LIBRARIES).arg(wheel))?;
    let pytest = ["-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "--timeout=120"];
    let tests = ["python/tests/pool", "python/tests/libraries"];
    let mut run_tests = command("timeout");
    run_tests.args(["--kill-after=10s", "20m"]).arg(python).args(pytest).args(tests);
    run(run_tests.env("PROCPOOL_INSTALLED", "1"))
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
