//! Completes the Python package in the source tree: builds its native module, and puts it where Python looks for it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::command::{cargo, root};

/// The file has the name that Python looks for, whichever Python that is.
const MODULE: &str = "python/procpool/_native.abi3.so";

/// Builds the native module, and puts it into the package.
///
/// # Errors
///
/// If it can't be built or copied.
pub(crate) fn build(is_release: bool) -> Result<()> {
    // With all that `cargo build` builds by default: another selection has other features, and is built from the start.
    let profile: &[&str] = if is_release { &["--release"] } else { &[] };
    cargo(&[&["build", "--quiet", "--locked"][..], profile].concat())?;
    place(if is_release { "release" } else { "debug" })
}

fn place(profile: &str) -> Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let (built, module) = (target.join(profile).join("libprocpool_native.so"), root().join(MODULE));
    // Under another name first: a process may have the old one mapped, and must not see it change.
    let copy = module.with_extension("new");
    std::fs::copy(&built, &copy).with_context(|| format!("could not copy {}", built.display()))?;
    std::fs::rename(&copy, &module).with_context(|| format!("could not replace {}", module.display()))
}
