//! What a check found, and how it is printed.

use std::io::{self, Write as _};

/// How a worker breaks the protocol.
#[derive(Debug)]
pub(super) struct Fault {
    /// What it did, as the end of a sentence about it.
    pub(super) got: String,
    /// What the protocol says about that.
    pub(super) rule: &'static str,
}

impl Fault {
    pub(super) fn new(rule: &'static str, got: impl Into<String>) -> Self {
        Self { got: got.into(), rule }
    }
}

/// What became of a check that found no fault.
#[derive(Debug)]
pub(super) enum Verdict {
    Ok,
    /// It is within the protocol, and there is something to say.
    Note(String),
    /// It could not be checked.
    Skipped(String),
}

/// Prints the checks as they are done, and counts them.
#[derive(Debug, Default)]
pub(super) struct Report {
    ok: usize,
    failed: usize,
    skipped: usize,
}

impl Report {
    pub(super) fn heading(text: &str) {
        print(&format!("\n{text}\n"));
    }

    pub(super) fn add(&mut self, title: &str, outcome: &Result<Verdict, Fault>) {
        match outcome {
            Ok(Verdict::Ok) => {
                self.ok += 1;
                print(&format!("  ok       {title}\n"));
            }
            Ok(Verdict::Note(note)) => {
                self.ok += 1;
                print(&format!("  ok       {title}\n             note: {note}\n"));
            }
            Ok(Verdict::Skipped(reason)) => {
                self.skipped += 1;
                print(&format!("  skipped  {title}\n             {reason}\n"));
            }
            Err(fault) => {
                self.failed += 1;
                print(&format!("  FAILED   {title}\n"));
                print(&format!("             the worker {}\n             the protocol: {}\n", fault.got, fault.rule));
            }
        }
    }

    /// Prints the sum. Returns whether no check failed.
    pub(super) fn finish(self) -> bool {
        let Self { ok, failed, skipped } = self;
        print(&format!("\n{ok} ok, {failed} failed, {skipped} skipped\n"));
        failed == 0
    }
}

/// Prints at once: a check may take a while. That nobody may read it is no reason to stop.
pub(super) fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
