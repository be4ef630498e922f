//! Results on stdout, in one form or another, and failed items on stderr.

mod json_line;
mod json_text;
mod table;

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use procpool_client::ItemError;
use serde_json::Value;

pub(crate) use self::json_line::OK;
pub(crate) use self::json_text::JsonText;
use self::table::Table;
use crate::list_args::{OutputArgs, OutputFormat};
use crate::print::{OutputError, print_item_error};
use crate::progress::Progress;
use crate::text;

/// The form of a result.
#[derive(Debug)]
enum Form {
    /// The result alone; null for a failed item.
    Value,
    /// An object with index, and result or message.
    Indexed,
    /// An object with index, status, and result or error.
    Json,
    Table(Table),
    Quiet,
}

/// Opens what results go to: the file of the command line, to append to it, or else stdout.
///
/// # Errors
///
/// If the file cannot be opened or created.
pub(crate) fn destination(path: Option<&Path>) -> Result<File, OutputError> {
    let Some(path) = path else { return Ok(io::stdout().as_fd().try_clone_to_owned()?.into()) };
    let file = File::options().append(true).create(true).open(path);
    file.map_err(|source| OutputError::Open { path: path.to_owned(), source })
}

/// Prints results, and counts them and those that failed.
#[derive(Debug)]
pub(crate) struct Output {
    writer: BufWriter<File>,
    form: Form,
    progress: Option<Progress>,
    num_printed: u64,
    num_failed: u64,
}

impl Output {
    /// Returns an output in the form of the command line; `last_index` is `None` if nobody knows it.
    pub(crate) fn new(args: &OutputArgs, last_index: Option<u64>, destination: File) -> Self {
        let form = match args.output {
            OutputFormat::Values if args.index => Form::Indexed,
            OutputFormat::Values => Form::Value,
            OutputFormat::Json => Form::Json,
            OutputFormat::Table => Form::Table(Table::new(last_index)),
            OutputFormat::Quiet => Form::Quiet,
        };
        let writer = BufWriter::with_capacity(64 << 10, destination);
        Self { writer, form, progress: None, num_printed: 0, num_failed: 0 }
    }

    /// Updates a progress bar with each result, and hides it while something is printed.
    pub(crate) fn beside(self, progress: Progress) -> Self {
        Self { progress: Some(progress), ..self }
    }

    /// Returns whether a failed item has a line of its own even when it ends the call.
    pub(crate) fn has_status(&self) -> bool {
        matches!(self.form, Form::Json | Form::Table(_))
    }

    /// Prints one result; for a failed item, the error on stderr too.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or the reader of stdout is gone.
    pub(crate) fn print(&mut self, index: u64, result: &Result<JsonText, ItemError>) -> Result<(), OutputError> {
        self.num_printed += 1;
        if let Some(progress) = &self.progress {
            progress.set(self.num_printed);
        }
        let text = match (&mut self.form, result) {
            (Form::Value, Ok(value)) => Some(value.to_string()),
            (Form::Value, Err(_)) => Some(Value::Null.to_string()),
            (Form::Indexed, Ok(value)) => Some(format!(r#"{{"index":{index},"result":{value}}}"#)),
            (Form::Indexed, Err(error)) => {
                Some(format!(r#"{{"index":{index},"error":{}}}"#, Value::from(error.message.as_str())))
            }
            (Form::Json, result) => Some(json_line::of(index, result)),
            (Form::Table(table), result) => Some(table.row(index, result)),
            (Form::Quiet, _) => None,
        };
        if let Some(text) = text {
            // JSON in any form but the table, which has escaped its texts.
            self.print_line(&text::json(&text))?;
        }
        if let Err(error) = result {
            self.num_failed += 1;
            // The results up to here come first.
            self.flush()?;
            let print = || print_item_error(&error.to_string(), error);
            match &self.progress {
                Some(progress) => progress.suspend(print),
                None => print(),
            }
        }
        Ok(())
    }

    fn print_line(&mut self, line: &str) -> Result<(), OutputError> {
        // The buffer must not flush itself while a bar stands on the same terminal.
        if self.writer.buffer().len() + line.len() + 1 > self.writer.capacity() {
            self.flush()?;
        }
        self.writer.write_all(line.as_bytes())?;
        Ok(self.writer.write_all(b"\n")?)
    }

    /// Prints what comes after the last result, and flushes.
    ///
    /// # Errors
    ///
    /// As [`Output::print`].
    pub(crate) fn finish(&mut self) -> Result<(), OutputError> {
        if let Form::Table(table) = &mut self.form {
            let end = table.end(self.num_printed, self.num_failed);
            self.print_line(&end)?;
        }
        self.flush()
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    ///
    /// As [`Output::print`].
    pub(crate) fn flush(&mut self) -> Result<(), OutputError> {
        if self.writer.buffer().is_empty() {
            return Ok(());
        }
        let flushed = match &self.progress {
            Some(progress) if progress.shares_terminal() => progress.suspend(|| self.writer.flush()),
            _ => self.writer.flush(),
        };
        Ok(flushed?)
    }

    pub(crate) fn num_failed(&self) -> u64 {
        self.num_failed
    }
}
