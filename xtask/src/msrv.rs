//! Whether the oldest Rust that Cargo.toml names is enough, as far as that can be told without having it.
//!
//! This checks what packages say of themselves; that our code calls nothing of std that is newer is for clippy's
//! `incompatible_msrv`, which is an error. What neither finds: newer syntax, and a dependency that says nothing or is
//! wrong. Only a build with that Rust does.

use anyhow::{Context as _, Result, ensure};

use crate::command::root;
use crate::metadata::{Metadata, Package};

/// Checks the packages in Cargo.lock, and what the README says.
///
/// # Errors
///
/// If a dependency names a newer Rust than ours, a member of the workspace or the README another one, or Cargo.lock is
/// out of date.
pub(crate) fn check() -> Result<()> {
    let metadata = Metadata::load()?;
    let ours = metadata.members().find_map(|member| member.rust_version.as_deref());
    let ours = ours.context("no package of the workspace names its oldest Rust")?;
    for member in metadata.members() {
        // Clippy looks at the member's own.
        ensure!(
            member.rust_version.as_deref() == Some(ours),
            "{} does not name Rust {ours}: set rust-version.workspace = true",
            member.name
        );
    }
    let newer: Vec<String> =
        metadata.packages.iter().filter(|package| needs_newer(package, ours)).map(describe).collect();
    ensure!(
        newer.is_empty(),
        "these need a newer Rust than {ours}: {}; lock an older version with cargo update -p NAME --precise VERSION, or \
         raise rust-version in Cargo.toml",
        newer.join(", ")
    );
    let promise = format!("Rust ({ours} or later)");
    let readme = std::fs::read_to_string(root().join("README.md"))?;
    ensure!(readme.contains(&promise), "README.md does not say {promise:?}, as Cargo.toml does");
    Ok(())
}

fn needs_newer(package: &Package, ours: &str) -> bool {
    package.rust_version.as_deref().is_some_and(|theirs| numbers(theirs) > numbers(ours))
}

fn describe(package: &Package) -> String {
    format!("{} {} ({})", package.name, package.version, package.rust_version.as_deref().unwrap_or_default())
}

/// Returns the three numbers of a version, with 0 for those that it leaves out.
fn numbers(version: &str) -> [u32; 3] {
    let mut parts = version.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::{Package, needs_newer};

    fn package(rust_version: Option<&str>) -> Package {
        let rust_version = rust_version.map(str::to_owned);
        let (id, name, version) = ("id".to_owned(), "name".to_owned(), "1.0.0".to_owned());
        Package { id, name, version, rust_version, targets: Vec::new() }
    }

    #[test]
    fn only_a_newer_rust_is_one() {
        for theirs in ["1.89", "1.88.1", "2.0", "1.100"] {
            assert!(needs_newer(&package(Some(theirs)), "1.88"), "{theirs}");
        }
        for theirs in [Some("1.88"), Some("1.88.0"), Some("1.9"), None] {
            assert!(!needs_newer(&package(theirs), "1.88"), "{theirs:?}");
        }
    }
}
