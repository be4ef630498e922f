//! What the checks share: the type of a check, how it starts workers, and the functions that it calls.

use std::time::{Duration, Instant};

use procpool_ipc::proto::Hello;
use procpool_ipc::{DEFAULT_JOURNAL_BYTES, DEFAULT_MAX_FRAME_BYTES};

use crate::process::Launcher;
use crate::report::{Fault, Outcome, Stop, skip};
use crate::session::{Session, Terms};
use crate::subject::{self, Subject, has_function};

/// The duration of a chunk that leaves time to act while it runs.
const LONG_CHUNK: Duration = Duration::from_millis(300);
/// The shortest duration of a chunk from which the run time of its items is measured.
const MEASURED_CHUNK: Duration = Duration::from_millis(20);
/// The most items of such a chunk.
const MAX_ITEMS: u128 = 100_000;

/// A check: its title, what it needs of the worker, and its function.
pub(crate) type Check = (&'static str, Needs, fn(&mut Kit) -> Outcome);

/// What a check needs of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// It becomes ready.
    Ready,
    /// It answers chunks.
    Answers,
}

/// The state that the checks share.
pub(crate) struct Kit {
    launcher: Launcher,
    pub(crate) timeout: Duration,
    pub(crate) calls_examples: bool,
    pub(crate) hello: Hello,
    /// The functions to call, the fastest first. Not empty once the worker was ready.
    pub(crate) subjects: Vec<Subject>,
    /// How long an item of the first subject takes.
    item_time: Duration,
}

impl Kit {
    pub(crate) fn new(launcher: Launcher, timeout: Duration, calls_examples: bool) -> Self {
        Self {
            launcher,
            timeout,
            calls_examples,
            hello: Hello::default(),
            subjects: Vec::new(),
            item_time: Duration::from_millis(1),
        }
    }

    /// Returns the default terms of a connection.
    pub(crate) fn terms(&self) -> Terms {
        Terms { max_frame_bytes: DEFAULT_MAX_FRAME_BYTES, journal_bytes: DEFAULT_JOURNAL_BYTES, timeout: self.timeout }
    }

    /// Starts a worker.
    pub(crate) fn start(&mut self) -> Result<Session, Fault> {
        let terms = self.terms();
        self.start_on(terms)
    }

    pub(crate) fn start_on(&mut self, terms: Terms) -> Result<Session, Fault> {
        Session::start(&mut self.launcher, terms)
    }

    /// Returns the fastest function.
    pub(crate) fn subject(&self) -> Subject {
        self.subjects.first().cloned().unwrap_or_else(subject::unknown)
    }

    /// Returns the function `echo`.
    pub(crate) fn echo(&self) -> Result<Subject, Stop> {
        Some(self.subject()).filter(|subject| subject.is_echo).ok_or_else(|| skip("it needs a function named `echo`"))
    }

    /// Returns the name of a function that returns its argument and may take bytes.
    pub(crate) fn echo_of_bytes(&self) -> Result<&'static str, Stop> {
        let name = ["echo_bytes", "echo"].into_iter().find(|name| has_function(&self.hello, name));
        name.ok_or_else(|| skip("it needs a function named `echo_bytes` or `echo`"))
    }

    /// Returns how many items take about this long.
    pub(crate) fn count_for(&self, duration: Duration) -> usize {
        let count = duration.as_nanos() / self.item_time.as_nanos().max(1);
        // The upper bound fits.
        usize::try_from(count.clamp(8, MAX_ITEMS)).unwrap_or(8)
    }

    /// Returns how many items make a chunk that leaves time to act while it runs.
    pub(crate) fn long_count(&self) -> usize {
        self.count_for(LONG_CHUNK)
    }

    /// Determines the functions to call and how long an item takes.
    pub(crate) fn meet(&mut self) -> Result<(), Fault> {
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
