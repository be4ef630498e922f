//! Running programs, with a heading and an error that names what failed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Returns the root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository").to_owned()
}

/// Returns a command that runs in the root of the repository.
#[expect(clippy::disallowed_methods, reason = "chores are other programs")]
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// Runs a command to its end.
///
/// # Errors
///
/// If it can't be started or does not exit with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("could not start {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

/// Runs cargo with these arguments.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn cargo(arguments: &[&str]) -> Result<()> {
    run(command(env!("CARGO")).args(arguments))
}
