//! Rules of the design that the compiler does not enforce, held against the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Returns the product code of each file in `src`, without comments and the tests at its end, by its path there.
fn sources() -> BTreeMap<PathBuf, String> {
    fn read(root: &Path, folder: &Path, sources: &mut BTreeMap<PathBuf, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            if path.is_dir() {
                read(root, &path, sources);
            } else if !["tests", "reference", "fuzzing", "design_rules"].contains(&name) {
                let text = std::fs::read_to_string(&path).unwrap();
                let product = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
                let code: Vec<&str> = product.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
                sources.insert(path.strip_prefix(root).unwrap().to_owned(), code.join("\n"));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = BTreeMap::new();
    read(&root, &root, &mut sources);
    sources
}

/// Returns the words that follow each occurrence of `before`.
fn words_after<'a>(code: &'a str, before: &str) -> impl Iterator<Item = &'a str> {
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    code.split(before).skip(1).map(move |rest| rest.split(|char| !is_word(char)).next().unwrap())
}

/// Returns the top-level modules that each top-level module names.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let sources = sources();
    let module_of = |path: &Path| path.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
    let modules: BTreeSet<String> = sources.keys().map(|path| module_of(path)).collect();
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, code) in &sources {
        // Lists are written out, but for that of the crate itself.
        let lists = code.split("use crate::{").skip(1).map(|rest| rest.split(';').next().unwrap());
        let listed = lists.flat_map(|list| list.split(|char: char| !char.is_alphanumeric() && char != '_'));
        let named = words_after(code, "crate::").chain(listed).filter(|name| modules.contains(*name));
        let named = named.filter(|name| *name != module_of(path)).map(str::to_owned);
        imports.entry(module_of(path)).or_default().extend(named);
    }
    imports
}

#[test]
fn modules_import_each_other_in_one_direction() {
    let mut imports = imports();
    assert!(imports["app"].contains("rpc") && imports["rpc"].contains("listener"), "{imports:?}");
    // What imports nothing that is left is taken away, until nothing is left.
    while !imports.is_empty() {
        let leaves: Vec<String> =
            imports.iter().filter(|(_, named)| named.is_empty()).map(|(module, _)| module.clone()).collect();
        assert!(!leaves.is_empty(), "a circle among {imports:?}");
        for leaf in leaves {
            imports.remove(&leaf);
            for named in imports.values_mut() {
                named.remove(&leaf);
            }
        }
    }
}

#[test]
fn the_listener_knows_no_service() {
    for module in ["rpc", "http", "pools", "telemetry", "operators"] {
        assert!(!imports()["listener"].contains(module), "{module}");
    }
}

#[test]
fn a_status_is_built_in_the_table_of_errors() {
    for (path, code) in sources().iter().filter(|(path, _)| !path.starts_with("rpc/status")) {
        for function in words_after(code, "Status::") {
            // The other is OpenTelemetry's.
            let is_known = ["from_header_map", "error"].contains(&function);
            let is_constructor = function.starts_with(char::is_lowercase) && !is_known;
            assert!(!is_constructor, "{}: Status::{function}", path.display());
        }
    }
}

#[test]
fn types_of_open_telemetry_stay_in_telemetry() {
    for (path, code) in sources().iter().filter(|(path, _)| !path.starts_with("telemetry")) {
        assert!(!code.contains("opentelemetry"), "{}", path.display());
    }
}
