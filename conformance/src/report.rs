//! What a check found, and how it is printed.

use std::io::Write;

/// How a worker breaks the protocol.
#[derive(Debug)]
pub(crate) struct Fault {
    /// What it did, as the end of a sentence about it.
    pub(crate) got: String,
    /// What the protocol says about that.
    pub(crate) rule: &'static str,
}

impl Fault {
    pub(crate) fn new(rule: &'static str, got: impl Into<String>) -> Self {
        Self { got: got.into(), rule }
    }
}

/// What is said of a check that found no fault.
#[derive(Debug)]
pub(crate) enum Verdict {
    Ok,
    /// It is within the protocol, and there is something to say.
    Note(String),
}

/// Why a check ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    Fault(Fault),
    /// It could not be made; the text says what it takes.
    Skipped(String),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What became of a check.
pub(crate) type Outcome = Result<Verdict, Stop>;

pub(crate) fn fault(rule: &'static str, got: impl Into<String>) -> Stop {
    Stop::Fault(Fault::new(rule, got))
}

pub(crate) fn skip(why: impl Into<String>) -> Stop {
    Stop::Skipped(why.into())
}

/// Prints the checks as they are done, and counts them.
pub(crate) struct Report<'a> {
    output: &'a mut dyn Write,
    ok: usize,
    failed: usize,
    skipped: usize,
}

impl<'a> Report<'a> {
    pub(crate) fn new(output: &'a mut dyn Write) -> Self {
        Self { output, ok: 0, failed: 0, skipped: 0 }
    }

    /// Prints at once: a check may take a while. That nobody may read it is no reason to stop.
    pub(crate) fn print(&mut self, text: &str) {
        let _ = self.output.write_all(text.as_bytes()).and_then(|()| self.output.flush());
    }

    pub(crate) fn add(&mut self, title: &str, outcome: &Outcome) {
        let (count, text) = match outcome {
            Ok(Verdict::Ok) => (&mut self.ok, format!("  ok       {title}\n")),
            Ok(Verdict::Note(note)) => (&mut self.ok, format!("  ok       {title}\n             note: {note}\n")),
            Err(Stop::Skipped(why)) => (&mut self.skipped, format!("  skipped  {title}\n             {why}\n")),
            Err(Stop::Fault(Fault { got, rule })) => (
                &mut self.failed,
                format!("  FAILED   {title}\n             the worker {got}\n             the protocol: {rule}\n"),
            ),
        };
        *count += 1;
        self.print(&text);
    }

    /// Prints the sum. Returns whether no check failed.
    pub(crate) fn finish(mut self) -> bool {
        let Self { ok, failed, skipped, .. } = self;
        self.print(&format!("\n{ok} ok, {failed} failed, {skipped} skipped\n"));
        failed == 0
    }
}
