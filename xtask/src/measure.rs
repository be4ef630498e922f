//! How large the crates are, and which of their modules import each other in a circle.
//!
//! A module depends on the modules that own what it imports or mentions. A re-export owns nothing: `super::Chunk` is a
//! dependency on the child that defines `Chunk`, and a parent that only re-exports a child does not depend on it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::command::root;
use crate::metadata::{Metadata, Package};
use crate::sources::{Module, Sources};

/// How often a re-export may lead to another.
const MAX_REEXPORTS: u8 = 8;

/// From one module to another, and the names by which it depends on it, each with its line.
type Dependencies = BTreeMap<(usize, usize), BTreeMap<String, usize>>;

/// Prints lines, files and circles of each crate.
///
/// # Errors
///
/// If a file can't be read, or one of the crates in `without_circles` has one or does not exist.
#[expect(clippy::print_stdout, reason = "this is what was asked for")]
pub(crate) fn run(without_circles: &[String]) -> Result<()> {
    let metadata = Metadata::load()?;
    for name in without_circles {
        ensure!(metadata.members().any(|member| member.short_name() == name), "there is no crate {name:?}");
    }
    println!("{:14} {:>6} {:>5} {:>7}  largest file", "crate", "lines", "files", "circles");
    let (mut total, mut circles) = ([0; 3], Vec::new());
    for member in metadata.members() {
        let crates = load(member)?;
        // Programs of a package may share files.
        let files: BTreeMap<_, _> = crates.iter().flat_map(|sources| &sources.files).cloned().collect();
        let found: Vec<String> = crates.iter().flat_map(circles_of).collect();
        let (largest, length) = files.iter().max_by_key(|(_, lines)| **lines).expect("a crate has a file");
        let (name, largest) = (member.short_name(), format!("{} ({length})", relative(largest)));
        let sums = [files.values().sum(), files.len(), found.len()];
        println!("{name:14} {:6} {:5} {:7}  {largest}", sums[0], sums[1], sums[2]);
        if metadata.is_product(member) {
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
        circles.extend(found.into_iter().map(|circle| (name, circle)));
    }
    println!("{:14} {:6} {:5} {:7}  (what a plain cargo build builds)", "product", total[0], total[1], total[2]);
    for (name, circle) in &circles {
        println!("\ncircle in {name}:\n{circle}");
    }
    let broken: Vec<&str> =
        circles.iter().map(|(name, _)| *name).filter(|name| without_circles.iter().any(|held| held == name)).collect();
    ensure!(broken.is_empty(), "modules of {} import each other in a circle, as listed above", broken.join(", "));
    Ok(())
}

/// Reads the library and the programs of a package.
///
/// # Errors
///
/// If a file can't be read or parsed.
pub(crate) fn load(package: &Package) -> Result<Vec<Sources>> {
    package.product_roots().map(Sources::load).collect()
}

/// Returns a file's path from the root of the repository.
pub(crate) fn relative(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

/// Returns every circle as lines, one for each module and each other one of the circle that it depends on.
fn circles_of(sources: &Sources) -> Vec<String> {
    let dependencies = dependencies(&sources.modules);
    let count = sources.modules.len();
    let mut reaches = vec![vec![false; count]; count];
    for (from, to) in dependencies.keys() {
        reaches[*from][*to] = true;
    }
    for via in 0..count {
        for from in 0..count {
            for to in 0..count {
                reaches[from][to] |= reaches[from][via] && reaches[via][to];
            }
        }
    }
    let is_in = |of: usize, other: usize| reaches[of][other] && reaches[other][of];
    let firsts = (0..count).filter(|first| reaches[*first][*first] && !(0..*first).any(|other| is_in(*first, other)));
    let describe = |first: usize| {
        let inner = dependencies.iter().filter(|((from, to), _)| is_in(first, *from) && is_in(first, *to));
        let line = |((from, to), names): (&(usize, usize), &BTreeMap<String, usize>)| {
            let (from, to) = (&sources.modules[*from], &sources.modules[*to]);
            let place = format!("{}:{}", relative(&from.file), names.values().min().copied().unwrap_or_default());
            let names: Vec<&str> = names.keys().map(String::as_str).collect();
            format!("  {} -> {}: {} ({place})", from.name(), to.name(), names.join(", "))
        };
        inner.map(line).collect::<Vec<_>>().join("\n")
    };
    firsts.map(describe).collect()
}

fn dependencies(modules: &[Module]) -> Dependencies {
    let mut found = Dependencies::new();
    for (from, module) in modules.iter().enumerate() {
        let imports = module.imports.iter().filter(|import| !import.is_reexport).map(|import| &import.mention);
        // A name alone may be a variable's, or that of a module; what is imported privately is counted above.
        let is_path = |path: &[String]| {
            path.len() > 1 || module.imports.iter().any(|import| import.is_reexport && import.name == path[0])
        };
        for mention in imports.chain(module.mentions.iter().filter(|mention| is_path(&mention.path))) {
            let owner = owner(modules, from, &mention.path, MAX_REEXPORTS);
            if let Some((to, name)) = owner.filter(|(to, _)| *to != from) {
                let name = name.or_else(|| modules[to].path.last().cloned()).unwrap_or_default();
                found.entry((from, to)).or_default().entry(name).or_insert(mention.line);
            }
        }
    }
    found
}

/// Returns the module that owns what this path names, seen from a module, and its name there, or none if it is the module
/// itself. What is of another crate has no owner.
fn owner(modules: &[Module], from: usize, path: &[String], reexports: u8) -> Option<(usize, Option<String>)> {
    let find = |path: &[String]| modules.iter().position(|module| module.path == path);
    let parent = |of: usize| find(modules[of].path.split_last()?.1);
    let member = |of: usize, name: &String| {
        let child = find(&[&modules[of].path[..], std::slice::from_ref(name)].concat()).map(|child| (child, None));
        let import = || modules[of].imports.iter().find(|import| import.name == *name);
        child.or_else(|| owner(modules, of, &import()?.mention.path, reexports.checked_sub(1)?))
    };
    let (first, rest) = path.split_first()?;
    let mut at = match first.as_str() {
        "crate" => (0, None),
        "self" => (from, None),
        "super" => (parent(from)?, None),
        _ => member(from, first)?,
    };
    for name in rest {
        at = match at {
            (_, Some(_)) => break,
            (module, None) if name == "super" => (parent(module)?, None),
            (module, None) => member(module, name).unwrap_or_else(|| (module, Some(name.clone()))),
        };
    }
    Some(at)
}

#[cfg(test)]
#[path = "measure_tests.rs"]
mod tests;
