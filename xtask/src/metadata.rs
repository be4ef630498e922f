//! What Cargo knows of the packages.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::command::command;

/// The part of `cargo metadata` that the chores read.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    /// Members of the workspace and everything that they depend on.
    pub(crate) packages: Vec<Package>,
    workspace_members: Vec<String>,
    workspace_default_members: Vec<String>,
}

/// A package.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) rust_version: Option<String>,
    pub(crate) targets: Vec<Target>,
}

/// What Cargo builds of a package: a library, a program, a test.
#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    kind: Vec<String>,
    src_path: PathBuf,
}

impl Package {
    /// Returns the name without the project's.
    pub(crate) fn short_name(&self) -> &str {
        self.name.strip_prefix("procpool-").unwrap_or(&self.name)
    }

    /// Returns the files at which its library and its programs begin.
    pub(crate) fn product_roots(&self) -> impl Iterator<Item = &Path> {
        let is_product =
            |target: &&Target| target.kind.iter().any(|kind| ["lib", "cdylib", "bin"].contains(&kind.as_str()));
        self.targets.iter().filter(is_product).map(|target| target.src_path.as_path())
    }
}

impl Metadata {
    /// Returns what Cargo says of this workspace, for the versions in Cargo.lock.
    ///
    /// # Errors
    ///
    /// If Cargo.lock is out of date or a package can't be had.
    pub(crate) fn load() -> Result<Self> {
        let output = command(env!("CARGO")).args(["metadata", "--locked", "--format-version", "1"]).output()?;
        ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).context("cargo metadata printed something else")
    }

    /// Returns the members of the workspace.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }

    /// Tells whether a plain `cargo build` builds this package.
    pub(crate) fn is_product(&self, package: &Package) -> bool {
        self.workspace_default_members.contains(&package.id)
    }
}
