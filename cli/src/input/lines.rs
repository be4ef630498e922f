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
    read(file, take, |line, text| {
        let text = text.trim_ascii();
        let item = (!text.is_empty()).then(|| Item::parse(text, form)).transpose();
        item.map_err(|error| {
            let name = file.name();
            error.at(format!("line {line} of {name}"), |problem| InputError::Line { name, line, problem })
        })
    })
}

/// Reads one text a line, empty ones too, without the end of the line.
pub(super) fn read_texts(file: &FileOrStdin, form: ItemForm, take: Take<'_>) -> Result<ControlFlow<()>, InputError> {
    read(file, take, |line, text| match std::str::from_utf8(without_end(text)) {
        Ok(text) => Ok(Some(Item::of(Value::from(text), form))),
        Err(error) => Err(InputError::Encoding { name: file.name(), line, byte: error.valid_up_to() + 1 }),
    })
}

/// Reads the file that each line names; empty lines name none.
pub(super) fn read_files(file: &FileOrStdin, take: Take<'_>) -> Result<ControlFlow<()>, InputError> {
    read(file, take, |_, path| {
        let path = Some(without_end(path)).filter(|path| !path.is_empty());
        path.map(|path| FileOrStdin::File(OsStr::from_bytes(path).into()).read_all().map(Item::Blob)).transpose()
    })
}

/// Takes the item of each line that has one.
fn read(
    file: &FileOrStdin,
    take: Take<'_>,
    item_of: impl Fn(u64, &[u8]) -> Result<Option<Item>, InputError>,
) -> Result<ControlFlow<()>, InputError> {
    let mut lines = Lines::new(file.name(), file.open()?);
    while let Some((line, text)) = lines.next_line()? {
        if let Some(item) = item_of(line, text)?
            && take(item).is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Returns a line without its end, of either kind.
fn without_end(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line))
}
