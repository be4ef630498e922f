//! The outcomes of checks, and their printed form.

use std::io::Write;

/// A violation of the protocol.
#[derive(Debug)]
pub(crate) struct Fault {
    /// What the worker did, as the end of a sentence.
    pub(crate) got: String,
    /// The rule that it violates.
    pub(crate) rule: &'static str,
}

impl Fault {
    pub(crate) fn new(rule: &'static str, got: impl Into<String>) -> Self {
        Self { got: got.into(), rule }
    }
}

/// Returns from a function with the fault that breaks this rule: what the worker did, as the end of a sentence.
macro_rules! bail {
    ($rule:expr, $($got:tt)+) => {
        return Err($crate::report::Fault::new($rule, format!($($got)+)).into())
    };
}
pub(crate) use bail;

/// The verdict of a check that found no fault.
#[derive(Debug)]
pub(crate) enum Verdict {
    Ok,
    /// No violation, with a remark.
    Note(String),
}

/// Why a check ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    Fault(Fault),
    /// It could not be run; the text says what it needs.
    Skipped(String),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// The outcome of a check.
pub(crate) type Outcome = Result<Verdict, Stop>;

pub(crate) fn fault(rule: &'static str, got: impl Into<String>) -> Stop {
    Stop::Fault(Fault::new(rule, got))
}

pub(crate) fn skip(why: impl Into<String>) -> Stop {
    Stop::Skipped(why.into())
}

/// Prints outcomes as they arrive, and counts them.
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

    /// Prints at once, since a check may take a while. Ignores errors: the checks continue without a reader.
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

    /// Counts checks that cannot be run, all for one reason.
    pub(crate) fn skip(&mut self, count: usize, why: &str) {
        self.skipped += count;
        self.print(&format!("\n  skipped  {count} checks\n             {why}\n"));
    }

    /// Prints the totals. Returns whether no check failed.
    pub(crate) fn finish(mut self) -> bool {
        let Self { ok, failed, skipped, .. } = self;
        self.print(&format!("\n{ok} ok, {failed} failed, {skipped} skipped\n"));
        failed == 0
    }
}
