//! Files of lines: one JSON value each, one text each, or the path of one file each.

use std::ffi::OsStr;
use std::io::{BufRead, Read as _};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;

use serde_json::Value;

use super::error::{InputError, MAX_ITEM_BYTES};
use super::file_or_stdin::FileOrStdin;
use super::item::{Item, ItemForm, Take};

/// The lines of a file, none longer than an item may be.
pub(super) struct Lines<R> {
    name: String,
    reader: R,
    number: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(name: String, reader: R) -> Self {
        Self { name, reader, number: 0, buffer: Vec::new() }
    }

    /// Reads the next line and its number, from 1; `None` at the end. The last may have no newline.
    pub(super) fn next_line(&mut self) -> Result<Option<(u64, &[u8])>, InputError> {
        self.buffer.clear();
        let mut limited = (&mut self.reader).take(MAX_ITEM_BYTES + 1);
        let length = limited
            .read_until(b'\n', &mut self.buffer)
            .map_err(|source| InputError::Read { name: self.name.clone(), source })?;
        if length == 0 {
            return Ok(None);
        }
        self.number += 1;
        if length as u64 > MAX_ITEM_BYTES {
            return Err(InputError::LongLine { name: self.name.clone(), line: self.number });
        }
        Ok(Some((self.number, &self.buffer)))
    }
}

/// Reads one JSON value a line. Empty lines are none.
pub(super) fn read_values(file: &FileOrStdin, form: ItemForm, take: Take<'_>) -> Result<ControlFlow<()>, InputError> {
    let mut lines = Lines::new(file.name(), file.open()?);
    while let Some((line, text)) = lines.next_line()? {
        let text = text.trim_ascii();
        if text.is_empty() {
            continue;
        }
        let item = Item::parse(text, form).map_err(|error| {
            let name = file.name();
            error.at(format!("line {line} of {name}"), |problem| InputError::Line { name, line, problem })
        })?;
        if take(item).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Reads one text a line, empty ones too, without the end of the line.
pub(super) fn read_texts(file: &FileOrStdin, form: ItemForm, take: Take<'_>) -> Result<ControlFlow<()>, InputError> {
    let mut lines = Lines::new(file.name(), file.open()?);
    while let Some((line, text)) = lines.next_line()? {
        let text = without_end(text);
        let text = std::str::from_utf8(text).map_err(|error| InputError::Encoding {
            name: file.name(),
            line,
            byte: error.valid_up_to() + 1,
        })?;
        if take(Item::of(Value::from(text), form)).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Reads the file that each line names; empty lines name none.
pub(super) fn read_files(file: &FileOrStdin, take: Take<'_>) -> Result<ControlFlow<()>, InputError> {
    let mut lines = Lines::new(file.name(), file.open()?);
    while let Some((_, path)) = lines.next_line()? {
        let path = without_end(path);
        if path.is_empty() {
            continue;
        }
        let item = FileOrStdin::File(OsStr::from_bytes(path).into()).read_all()?;
        if take(Item::Blob(item)).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Returns a line without its end, of either kind.
fn without_end(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line))
}
