//! Rules of the design that the compiler does not enforce, held by a test.
//!
//! The test reads the product code of the crates that a plain `cargo build` builds, as syntax: comments, texts and tests
//! do not matter. It sees paths, through the imports of their module. It does not see what comes by a glob, a method, a
//! conversion (`.into()`) or a macro of another crate.

use anyhow::Result;

use crate::measure::{load, relative};
use crate::metadata::Metadata;
use crate::sources::{Module, Sources};

/// What some code may not name.
struct Rule {
    name: &'static str,
    /// Paths, with all that is below them; with `::*`, only what is below.
    forbidden: &'static [&'static str],
    /// What is below them and is harmless.
    harmless: &'static [&'static str],
    /// Where it is forbidden: the beginning of a file's path. Empty: everywhere.
    within: &'static str,
    /// Where it is allowed: files or folders, and why.
    exceptions: &'static [(&'static str, &'static str)],
    what_to_do: &'static str,
}

const RULES: [Rule; 7] = [
    Rule {
        name: "a tonic::Status is built in one place",
        forbidden: &["tonic::Status::*"],
        harmless: &["tonic::Status::from_header_map", "tonic::Status::GRPC_STATUS_DETAILS"],
        within: "",
        exceptions: &[("server/src/rpc/status/", "the one table of errors")],
        what_to_do: "return an error that server/src/rpc/status knows, so that it has a reason and its details",
    },
    Rule {
        name: "the environment is read in one file of each program or library",
        forbidden: &[
            "std::env::var",
            "std::env::var_os",
            "std::env::vars",
            "std::env::vars_os",
            "std::env::set_var",
            "std::env::remove_var",
        ],
        harmless: &[],
        within: "",
        exceptions: &[
            ("cli/src/config/environment.rs", "the program's one file"),
            ("client/src/connection.rs", "a worker's pool, PROCPOOL_POOL"),
            ("worker/src/connect.rs", "a worker's channel, PROCPOOL_FD or PROCPOOL_SOCKET"),
        ],
        what_to_do: "make it a setting (cli/src/config/settings.rs), and hand the value on",
    },
    Rule {
        name: "processes are spawned by the supervisor",
        forbidden: &["std::process::Command", "tokio::process::Command", "libc::fork", "libc::posix_spawn"],
        harmless: &[],
        within: "",
        exceptions: &[
            ("pool/src/supervisor/", "workers: spawned, watched and reaped here"),
            ("cli/src/worker/exec/", "a worker of commands: what its functions run, and the watchdog of that"),
            ("cli/src/watchdog.rs", "the process that kills what a killed server leaves"),
            ("conformance/src/process.rs", "the worker that is checked"),
        ],
        what_to_do: "have pool/src/supervisor spawn it: there it is watched, killed with its group, and reaped",
    },
    Rule {
        name: "tasks and threads have an owner that joins them",
        forbidden: &[
            "tokio::spawn",
            "tokio::task::spawn",
            "tokio::task::spawn_local",
            "std::thread::spawn",
            "std::thread::Builder",
        ],
        harmless: &[],
        within: "",
        exceptions: &[
            ("pool/src/driver/mod.rs", "the driver, joined by PoolTask"),
            ("pool/src/supervisor/thread.rs", "the supervisor's threads, joined when the spawner is dropped"),
            ("worker/src/worker.rs", "the worker's thread, joined by its scope"),
            ("server/src/telemetry/exporters.rs", "the last export, which may hang: waited for with a limit"),
            ("cli/src/input.rs", "reads stdin, which cannot be interrupted: ends with the program"),
        ],
        what_to_do: "use a TaskTracker, a JoinSet or a scope that somebody waits for",
    },
    Rule {
        name: "OpenTelemetry's types stay in server/telemetry",
        forbidden: &[
            "opentelemetry",
            "opentelemetry_otlp",
            "opentelemetry_prometheus",
            "opentelemetry_proto",
            "opentelemetry_sdk",
            "prometheus",
        ],
        harmless: &[],
        within: "",
        exceptions: &[("server/src/telemetry/", "makes metrics and spans of what others tell")],
        what_to_do: "tell it server/src/telemetry as an event or a number: a PoolObserver, or a method of Telemetry",
    },
    Rule {
        name: "the scheduler is pure: no clock, no I/O, no tasks, no order by chance",
        forbidden: &[
            "libc",
            "rustix",
            "std::collections::HashMap",
            "std::collections::HashSet",
            "std::env",
            "std::fs",
            "std::io",
            "std::net",
            "std::os",
            "std::process",
            "std::thread",
            "std::time::Instant",
            "std::time::SystemTime",
            "tokio",
            "tracing",
        ],
        harmless: &[],
        within: "scheduler/src/",
        exceptions: &[],
        what_to_do: "have the driver do it: time is an argument, what happens an Event, and what is to be done an Effect",
    },
    Rule {
        name: "the listener knows no service",
        forbidden: &["crate::http", "crate::operators", "crate::pools", "crate::rpc", "crate::telemetry"],
        harmless: &[],
        within: "server/src/listener/",
        exceptions: &[],
        what_to_do: "hand it over as an argument, or leave it in the request's extensions",
    },
];

/// Where a rule is broken.
struct Finding {
    file: String,
    line: usize,
    path: String,
}

impl Rule {
    /// Returns where a crate names what is forbidden, exceptions included.
    fn find(&self, sources: &Sources) -> Vec<Finding> {
        let mut found = Vec::new();
        for module in &sources.modules {
            let file = relative(&module.file);
            if !file.starts_with(self.within) {
                continue;
            }
            let imports = module.imports.iter().map(|import| &import.mention);
            for mention in imports.chain(&module.mentions) {
                let path = full_path(module, &mention.path);
                if self.forbids(&path) {
                    found.push(Finding { file: file.clone(), line: mention.line, path });
                }
            }
        }
        found
    }

    fn forbids(&self, path: &str) -> bool {
        let is_below = |path: &str, top: &str| path.strip_prefix(top).is_some_and(|rest| rest.starts_with("::"));
        let matches = |pattern: &&str| match pattern.strip_suffix("::*") {
            Some(top) => is_below(path, top),
            None => path == *pattern || is_below(path, pattern),
        };
        self.forbidden.iter().any(matches) && !self.harmless.iter().any(matches)
    }
}

/// Returns a path as it is from the crate's name on, if its first name is imported in the module.
fn full_path(module: &Module, path: &[String]) -> String {
    let import = module.imports.iter().find(|import| import.name == path[0] && import.mention.path.len() > 1);
    let (first, rest) = (import.map_or(&path[..1], |import| &import.mention.path), &path[1..]);
    [first, rest].concat().join("::")
}

#[test]
fn the_code_keeps_the_rules() -> Result<()> {
    let metadata = Metadata::load()?;
    let mut crates = Vec::new();
    for member in metadata.members().filter(|member| metadata.is_product(member)) {
        crates.extend(load(member)?);
    }
    let mut broken = Vec::new();
    for rule in &RULES {
        let found: Vec<Finding> = crates.iter().flat_map(|sources| rule.find(sources)).collect();
        let is_allowed = |finding: &&Finding| rule.exceptions.iter().any(|(place, _)| finding.file.starts_with(place));
        for Finding { file, line, path } in found.iter().filter(|finding| !is_allowed(finding)) {
            broken.push(format!("{file}:{line} names {path}, but {}: {}", rule.name, rule.what_to_do));
        }
        for (place, why) in rule.exceptions {
            if !found.iter().any(|finding| finding.file.starts_with(place)) {
                let name = rule.name;
                broken.push(format!("{place} ({why}) needs no exception from the rule that {name}: remove it"));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
    Ok(())
}

/// A text that breaks each rule in the lines that say so, and does not in the others.
const BREAKERS: [(&str, &str); RULES.len()] = [
    (
        "server/src/x.rs",
        r#"//! tonic::Status::internal("in documentation")
        use tonic::Status;
        fn reads(status: &Status) -> Option<Status> { Status::from_header_map(&status.headers()) }
        fn builds() -> Status { Status::internal("") } // BREAKS
        fn builds_it_otherwise() { assert!(tonic::Status::new(1, "tonic::Status::new")) } // BREAKS
        #[cfg(test)] mod tests { fn builds() { super::Status::ok("") } }"#,
    ),
    (
        "pool/src/x.rs",
        r#"use std::env::{self, consts::OS};
        fn reads() { env::var("HOME"); } // BREAKS
        use std::env::var_os as look_up; // BREAKS
        fn does_not() { env::current_dir(); env!("HOME"); "std::env::var" }"#,
    ),
    (
        "server/src/x.rs",
        r#"use std::process::{Command as Program, ExitCode}; // BREAKS
        fn spawns() { tokio::process::Command::new("true"); } // BREAKS
        struct Command; fn does_not() { Command::new(); }"#,
    ),
    (
        "server/src/x.rs",
        r"use tokio::task;
        fn spawns() { task::spawn(async {}); } // BREAKS
        fn spawns_too() { tokio::select! { _ = tokio::spawn(x) => {} } } // BREAKS
        fn does_not(tracker: &TaskTracker) { tracker.spawn(x); task::spawn_blocking(x) }",
    ),
    (
        "pool/src/x.rs",
        r#"use opentelemetry::metrics::Counter; // BREAKS
        fn counts(_: &prometheus::Registry) {} // BREAKS
        fn does_not() { tracing::info!("opentelemetry"); crate::prometheus::of(); }"#,
    ),
    (
        "scheduler/src/x.rs",
        r#"use std::time::{Duration, Instant}; // BREAKS
        use std::{collections::{BTreeMap, HashMap}, fmt}; // BREAKS
        fn reads() { std::fs::read("x"); } // BREAKS
        fn does_not(_: BTreeMap<Duration, fmt::Error>) {}"#,
    ),
    (
        "server/src/listener/x.rs",
        r"use crate::{config::ServerConfig, rpc::status}; // BREAKS
        fn asks(_: &crate::pools::Pools) {} // BREAKS
        fn does_not(_: &crate::lifecycle::Lifecycle) {}",
    ),
];

#[test]
fn what_breaks_a_rule_is_found() {
    for (rule, (file, text)) in RULES.iter().zip(BREAKERS) {
        let mut sources = Sources::default();
        sources.add_text(text, file.as_ref(), "".as_ref(), Vec::new()).unwrap();
        let mut found: Vec<usize> = rule.find(&sources).iter().map(|finding| finding.line).collect();
        found.sort_unstable();
        found.dedup();
        let lines = text.lines().zip(1..).filter(|(line, _)| line.ends_with("// BREAKS"));
        let expected: Vec<usize> = lines.map(|(_, number)| number).collect();
        assert_eq!(found, expected, "{}", rule.name);
    }
}
