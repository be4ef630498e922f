//! Prints answers to stdout and messages to stderr, escaped.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::ValueEnum;
use procpool_client::ItemError;
use serde::Serialize;
use serde_json::Value;

use crate::text;

/// How an answer is printed: as a sentence, or as one JSON object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum AnswerFormat {
    #[default]
    Text,
    Json,
}

/// How a list of what there is at a server is printed: as a table, or as JSON.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum TableFormat {
    #[default]
    Table,
    Json,
}

/// Why results cannot be printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    /// The reader of stdout is gone, as `head` is after its last line.
    #[error("nobody reads the results any more")]
    Closed,
    #[error("cannot write the results: {0}")]
    Write(io::Error),
    #[error("cannot write to {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::Write(error) }
    }
}

/// Prints a message on a failed item, with all that is known of it.
pub(crate) fn print_item_error(message: &str, error: &ItemError) {
    let mut text = format!("procpool: {}\n", text::indented(message));
    for details in [error.traceback(), error.stderr_tail()].into_iter().flatten() {
        for line in details.lines() {
            text.push_str("    ");
            text.push_str(line);
            text.push('\n');
        }
    }
    print_stderr(&text);
}

/// Prints a message to stderr. Its further lines are indented, so that none looks like another message.
pub(crate) fn print_message(message: &str) {
    print_stderr(&format!("procpool: {}\n", text::indented(message)));
}

/// Prints lines to stderr, escaped. Ignores errors: stderr may be closed.
pub(crate) fn print_stderr(text: &str) {
    let _ = io::stderr().lock().write_all(text::lines(text).as_bytes());
}

/// Returns what an answer is in JSON.
pub(crate) fn json_value(answer: &impl Serialize) -> Value {
    serde_json::to_value(answer).expect("answers are plain data with names for keys")
}

/// Prints an answer to stdout, escaped.
///
/// # Errors
///
/// If stdout is closed or cannot be written.
pub(crate) fn print_stdout(text: &str) -> Result<(), OutputError> {
    Ok(io::stdout().write_all(text::lines(text).as_bytes())?)
}
