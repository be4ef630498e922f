//! The conformance kit: starts a worker as the server does, speaks the protocol with it, and says what it does wrong.
//!
//! `process` starts it, `session` plays the server by hand, and `ledger` holds every frame against the protocol; so a
//! fault is found wherever it shows. The checks themselves, in `connection`, `calls`, `common`, `failures`, `decoding`,
//! `recall` and `ending`, bring the worker into the situations in which faults show. Each has a worker process of its own.

mod calls;
mod common;
mod connection;
mod decoding;
mod ending;
mod failures;
mod ledger;
#[cfg(test)]
mod ledger_tests;
mod process;
mod recall;
mod report;
mod rules;
mod session;
mod subject;

use std::ffi::OsString;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use procpool_ipc::proto::Hello;
use procpool_ipc::{DEFAULT_JOURNAL_BYTES, DEFAULT_MAX_FRAME_BYTES};

use self::process::Launcher;
use self::report::{Fault, Outcome, Report, Stop, Verdict, skip};
use self::session::{Session, Terms};
use self::subject::{Subject, has_function};

/// How long a chunk should take that is long enough to do something meanwhile.
const LONG_CHUNK: Duration = Duration::from_millis(300);
/// How long a chunk must take to tell how long its items do.
const MEASURED_CHUNK: Duration = Duration::from_millis(20);
/// The most items of such a chunk.
const MAX_ITEMS: u128 = 100_000;

/// A check: what a good worker does, what the check needs of it, and how it is made.
type Check = (&'static str, Needs, fn(&mut Kit) -> Outcome);

/// What a check needs of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// That it becomes ready.
    Ready,
    /// That it answers chunks.
    Answers,
}

const GROUPS: [(&str, &[Check]); 7] = [
    ("connection", &connection::CHECKS),
    ("calls", &calls::CHECKS),
    ("a common argument", &common::CHECKS),
    ("failures", &failures::CHECKS),
    ("large items", &decoding::CHECKS),
    ("recall and ping", &recall::CHECKS),
    ("the end", &ending::CHECKS),
];

/// Which worker to check, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program and its arguments. Not empty.
    pub command: Vec<OsString>,
    /// The variables that the worker gets, beside those of the protocol.
    pub environment: Vec<(OsString, OsString)>,
    /// How long to wait for what a worker must do; ten times as long for its start.
    pub timeout: Duration,
    /// Call every function that says how, too, to see whether it leaves processes behind.
    pub calls_examples: bool,
}

/// What the checks share.
pub(crate) struct Kit {
    launcher: Launcher,
    timeout: Duration,
    calls_examples: bool,
    hello: Hello,
    /// What to call; the first is the one to call often. Never empty once the worker was ready.
    subjects: Vec<Subject>,
    /// How long an item of the first subject takes.
    item_time: Duration,
}

impl Kit {
    /// Returns the usual terms of a connection.
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

    /// Returns the function to call often.
    fn subject(&self) -> Subject {
        self.subjects.first().cloned().unwrap_or_else(subject::unknown)
    }

    /// Returns the function `echo`.
    fn echo(&self) -> Result<Subject, Stop> {
        Some(self.subject()).filter(|subject| subject.is_echo).ok_or_else(|| skip("it takes a function named `echo`"))
    }

    /// Returns the name of a function that returns its argument, and may take bytes.
    fn echo_of_bytes(&self) -> Result<&'static str, Stop> {
        let name = ["echo_bytes", "echo"].into_iter().find(|name| has_function(&self.hello, name));
        name.ok_or_else(|| skip("it takes a function named `echo_bytes` or `echo`"))
    }

    /// Returns how many items take about so long.
    fn count_for(&self, duration: Duration) -> usize {
        let count = duration.as_nanos() / self.item_time.as_nanos().max(1);
        // It fits: the bound does.
        usize::try_from(count.clamp(8, MAX_ITEMS)).unwrap_or(8)
    }

    /// Returns how many items take long enough to do something meanwhile.
    fn long_count(&self) -> usize {
        self.count_for(LONG_CHUNK)
    }

    /// Finds out whom to call and how long that takes.
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

/// Measures what an item takes in a chunk that is as long as can be waited for.
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

/// Runs all checks and prints what comes of them. Returns whether no check failed. For a process that has opened no files
/// yet, and has no children: what workers leave behind becomes its own.
///
/// # Errors
///
/// If the checks cannot be made.
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
                Needs::Answers if !answers => Err(skip("it does not answer a chunk as it should")),
                Needs::Ready | Needs::Answers => check(&mut kit),
            };
            report.add(title, &outcome);
        }
    }
    Ok(report.finish())
}

/// Says who is checked, and with what.
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
