//! Results on stdout, one JSON value a line, and failed items on stderr.

use std::io::{self, BufWriter, Stdout, Write as _};

use procpool_client::ItemError;
use serde_json::Value;

use crate::exit::{Exit, Failure};
use crate::progress::Progress;

/// Why results cannot be printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    /// The reader of our stdout has had enough, as `head` does.
    #[error("nobody reads the results any more")]
    Closed,
    #[error("cannot write the results: {0}")]
    Write(io::Error),
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::Write(error) }
    }
}

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Self {
        let exit = if matches!(error, OutputError::Closed) { Exit::Ok } else { Exit::Failed };
        Self::new(exit, error)
    }
}

/// Prints results, and counts them and those that failed.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: BufWriter<Stdout>,
    with_index: bool,
    progress: Option<Progress>,
    num_printed: u64,
    num_failed: u64,
}

impl Output {
    /// Returns an output that prints results, or objects with index and result.
    pub(crate) fn new(with_index: bool) -> Self {
        let stdout = BufWriter::with_capacity(64 << 10, io::stdout());
        Self { stdout, with_index, progress: None, num_printed: 0, num_failed: 0 }
    }

    /// Has the output move a progress bar, and keep out of its way.
    pub(crate) fn beside(self, progress: Progress) -> Self {
        Self { progress: Some(progress), ..self }
    }

    /// Prints one result; for a failed item null, and the error on stderr.
    ///
    /// # Errors
    ///
    /// If stdout is closed or cannot be written.
    pub(crate) fn print(&mut self, index: u64, result: &Result<Value, ItemError>) -> Result<(), OutputError> {
        self.num_printed += 1;
        if let Some(progress) = &self.progress {
            progress.set(self.num_printed);
        }
        if let Err(error) = result {
            self.num_failed += 1;
            // The results before it come first.
            self.flush()?;
            match &self.progress {
                Some(progress) => progress.suspend(|| print_item_error(error)),
                None => print_item_error(error),
            }
        }
        self.print_line(&match (result, self.with_index) {
            (Ok(value), false) => value.to_string(),
            (Err(_), false) => Value::Null.to_string(),
            (Ok(value), true) => format!(r#"{{"index":{index},"result":{value}}}"#),
            (Err(error), true) => format!(r#"{{"index":{index},"error":{}}}"#, Value::from(error.message.as_str())),
        })
    }

    fn print_line(&mut self, line: &str) -> Result<(), OutputError> {
        // The buffer must not flush itself while a bar stands on the same terminal.
        if self.stdout.buffer().len() + line.len() + 1 > self.stdout.capacity() {
            self.flush()?;
        }
        self.stdout.write_all(line.as_bytes())?;
        Ok(self.stdout.write_all(b"\n")?)
    }

    /// Hands everything to stdout.
    ///
    /// # Errors
    ///
    /// As [`Output::print`].
    pub(crate) fn flush(&mut self) -> Result<(), OutputError> {
        if self.stdout.buffer().is_empty() {
            return Ok(());
        }
        let flushed = match &self.progress {
            Some(progress) if progress.shares_terminal() => progress.suspend(|| self.stdout.flush()),
            _ => self.stdout.flush(),
        };
        Ok(flushed?)
    }

    pub(crate) fn num_failed(&self) -> u64 {
        self.num_failed
    }
}

/// Prints a failed item with all that is known of it.
pub(crate) fn print_item_error(error: &ItemError) {
    let mut text = format!("procpool: {error}\n");
    for details in [error.traceback(), error.stderr_tail()].into_iter().flatten() {
        for line in details.lines() {
            text.push_str("    ");
            text.push_str(line);
            text.push('\n');
        }
    }
    print_stderr(&text);
}

/// Prints to stderr. That nobody may be there to read it is no reason to stop.
pub(crate) fn print_stderr(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
