//! The conformance kit: starts a worker as the server does, speaks the protocol with it, and reports violations.
//!
//! `process` starts it, `session` acts as the server, and `transcript` validates every frame, so a violation is found
//! in any check. The checks in `connection`, `calls`, `common`, `failures`, `decoding`, `recall` and `ending` create
//! the situations in which violations occur. Each check has a worker process of its own.

mod calls;
mod common;
mod connection;
mod decoding;
mod ending;
mod failures;
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
use std::time::{Duration, Instant};

use procpool_ipc::proto::Hello;
use procpool_ipc::{DEFAULT_JOURNAL_BYTES, DEFAULT_MAX_FRAME_BYTES};

use self::process::Launcher;
use self::report::{Fault, Outcome, Report, Stop, Verdict, skip};
use self::session::{Session, Terms};
use self::subject::{Subject, has_function};

/// The duration of a chunk that leaves time to act while it runs.
const LONG_CHUNK: Duration = Duration::from_millis(300);
/// The shortest duration of a chunk from which the run time of its items is measured.
const MEASURED_CHUNK: Duration = Duration::from_millis(20);
/// The most items of such a chunk.
const MAX_ITEMS: u128 = 100_000;

/// A check: its title, what it needs of the worker, and its function.
type Check = (&'static str, Needs, fn(&mut Kit) -> Outcome);

/// What a check needs of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// It becomes ready.
    Ready,
    /// It answers chunks.
    Answers,
}

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

/// The state that the checks share.
pub(crate) struct Kit {
    launcher: Launcher,
    timeout: Duration,
    calls_examples: bool,
    hello: Hello,
    /// The functions to call, the fastest first. Not empty once the worker was ready.
    subjects: Vec<Subject>,
    /// How long an item of the first subject takes.
    item_time: Duration,
}

impl Kit {
    /// Returns the default terms of a connection.
    fn terms(&self) -> Terms {
        Terms { max_frame_bytes: DEFAULT_MAX_FRAME_BYTES, journal_bytes: DEFAULT_JOURNAL_BYTES, timeout: self.timeout }
    }

    /// Starts a worker.
    fn start(&mut self) -> Result<Session, Fault> {
        let terms = self.terms();
        self.start_on(terms)
    }

    fn start_on(&mut self, terms: Terms) -> Result<Session, Fault> {
        Session::start(&mut self.launcher, terms)
    }

    /// Returns the fastest function.
    fn subject(&self) -> Subject {
        self.subjects.first().cloned().unwrap_or_else(subject::unknown)
    }

    /// Returns the function `echo`.
    fn echo(&self) -> Result<Subject, Stop> {
        Some(self.subject()).filter(|subject| subject.is_echo).ok_or_else(|| skip("it needs a function named `echo`"))
    }

    /// Returns the name of a function that returns its argument and may take bytes.
    fn echo_of_bytes(&self) -> Result<&'static str, Stop> {
        let name = ["echo_bytes", "echo"].into_iter().find(|name| has_function(&self.hello, name));
        name.ok_or_else(|| skip("it needs a function named `echo_bytes` or `echo`"))
    }

    /// Returns how many items take about this long.
    fn count_for(&self, duration: Duration) -> usize {
        let count = duration.as_nanos() / self.item_time.as_nanos().max(1);
        // The upper bound fits.
        usize::try_from(count.clamp(8, MAX_ITEMS)).unwrap_or(8)
    }

    /// Returns how many items make a chunk that leaves time to act while it runs.
    fn long_count(&self) -> usize {
        self.count_for(LONG_CHUNK)
    }

    /// Determines the functions to call and how long an item takes.
    fn meet(&mut self) -> Result<(), Fault> {
        let mut session = self.start()?;
        self.hello = session.hello().clone();
        let mut timed = Vec::new();
        for subject in subject::subjects(&self.hello) {
            session.call(subject.run_many(2))?;
            timed.push((time_item(&mut session, &subject)?, subject));
        }
        timed.sort_by_key(|(time, _)| *time);
        self.item_time = timed.first().map_or(Duration::from_millis(1), |(time, _)| *time);
        self.subjects = timed.into_iter().map(|(_, subject)| subject).collect();
        Ok(())
    }
}

/// Measures the time per item, with chunks of increasing size.
fn time_item(session: &mut Session, subject: &Subject) -> Result<Duration, Fault> {
    let mut count = 8;
    loop {
        let begin = Instant::now();
        session.call(subject.run_many(count as usize))?;
        let elapsed = begin.elapsed();
        if elapsed > MEASURED_CHUNK || count >= 8 << 10 {
            return Ok(elapsed / count);
        }
        count *= 4;
    }
}

/// Runs all checks and prints their outcomes. Returns whether no check failed. Call it in a process that has opened no
/// files and has no children: it adopts the orphans of workers.
///
/// # Errors
///
/// If the checks cannot be run.
pub fn check(options: &Options, output: &mut dyn Write) -> io::Result<bool> {
    let mut kit = Kit {
        launcher: Launcher::new(&options.command, &options.environment)?,
        timeout: options.timeout,
        calls_examples: options.calls_examples,
        hello: Hello::default(),
        subjects: Vec::new(),
        item_time: Duration::from_millis(1),
    };
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
    for (group, checks) in GROUPS {
        report.print(&format!("\n{group}\n"));
        for (title, needs, check) in checks {
            let outcome = match needs {
                _ if !is_ready => Err(skip("it does not become ready")),
                Needs::Answers if !answers => Err(skip("it does not answer a chunk correctly")),
                Needs::Ready | Needs::Answers => check(&mut kit),
            };
            report.add(title, &outcome);
        }
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
