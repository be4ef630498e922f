//! The conformance kit: starts a worker as the server does, speaks the protocol with it, and reports violations.
//!
//! `process` starts it, `session` acts as the server, and `transcript` validates every frame, so a violation is found
//! in any check. The checks in `connection`, `calls`, `common`, `failures`, `decoding`, `recall` and `ending` create
//! the situations in which violations occur; `kit` is what they share. Each check has a worker process of its own.

mod calls;
mod common;
mod connection;
mod decoding;
mod ending;
mod failures;
mod kit;
mod process;
mod recall;
mod report;
mod rules;
mod session;
mod subject;
mod transcript;
#[cfg(test)]
mod transcript_tests;

use std::ffi::OsString;
use std::io::{self, Write};
use std::time::Duration;

use procpool_ipc::proto::Hello;

use self::kit::{Check, Kit, Needs};
use self::process::Launcher;
use self::report::{Report, Stop, Verdict};

const GROUPS: [(&str, &[Check]); 7] = [
    ("connection", &connection::CHECKS),
    ("calls", &calls::CHECKS),
    ("common argument", &common::CHECKS),
    ("failures", &failures::CHECKS),
    ("large items", &decoding::CHECKS),
    ("recall and ping", &recall::CHECKS),
    ("exit", &ending::CHECKS),
];

/// Which worker to check, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program and its arguments. Not empty.
    pub command: Vec<OsString>,
    /// The worker's environment, beside the variables of the protocol.
    pub environment: Vec<(OsString, OsString)>,
    /// How long to wait for an answer of the worker; ten times as long for its start.
    pub timeout: Duration,
    /// Also call every function that has an example, to check whether it leaves processes behind.
    pub calls_examples: bool,
}

/// Runs all checks and prints their outcomes. Returns whether no check failed. Call it in a process that has opened no
/// files and has no children: it adopts the orphans of workers.
///
/// # Errors
///
/// If the checks cannot be run.
pub fn check(options: &Options, output: &mut dyn Write) -> io::Result<bool> {
    let launcher = Launcher::new(&options.command, &options.environment)?;
    let mut kit = Kit::new(launcher, options.timeout, options.calls_examples);
    let mut report = Report::new(output);
    let first = connection::says_hello(&mut kit);
    let is_ready = first.is_ok();
    report.add("says Hello, then Ready", &first);
    let mut answers = false;
    if is_ready {
        let met = kit.meet();
        answers = met.is_ok();
        report.add("answers a chunk", &met.map(|()| Verdict::Ok).map_err(Stop::from));
        report.print(&introduction(&kit));
    }
    let can_run = |needs| is_ready && (answers || needs == Needs::Ready);
    let mut num_left = 0;
    for (group, checks) in GROUPS {
        let (checks, left): (Vec<&Check>, Vec<_>) = checks.iter().partition(|(_, needs, _)| can_run(*needs));
        num_left += left.len();
        if !checks.is_empty() {
            report.print(&format!("\n{group}\n"));
        }
        for (title, _, check) in checks {
            report.add(title, &check(&mut kit));
        }
    }
    if num_left > 0 {
        report
            .skip(num_left, if is_ready { "it does not answer a chunk correctly" } else { "it does not become ready" });
    }
    Ok(report.finish())
}

/// Describes the worker and the functions that are called.
fn introduction(kit: &Kit) -> String {
    let Hello { sdk, functions, uses_progress_page, .. } = &kit.hello;
    let page = if *uses_progress_page { "keeps the progress page" } else { "keeps no progress page" };
    let names: Vec<&str> = kit.subjects.iter().map(|subject| subject.function.as_str()).collect();
    let with = match names[..] {
        [] => "an unknown function, as it has neither `echo` nor examples".to_owned(),
        _ => names.join(", "),
    };
    format!("           {sdk:?} {page} and has {} functions; called with: {with}\n", functions.len())
}
