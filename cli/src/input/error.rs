//! Why there is no item.

use std::io;

/// The longest line of a file, or item in one, in bytes: no message could hold more.
pub(super) const MAX_ITEM_BYTES: u64 = 64 << 20;
/// Why there is no item.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("there are no items: give them as arguments, ranges (1..10) or @FILE, or pipe them to stdin")]
    NoItems,
    #[error("{text:?} is not JSON ({problem}); a string needs its quotes: '\"…\"'")]
    Argument { text: String, problem: String },
    #[error("{text:?} is no keyword argument: it is NAME=VALUE")]
    KeywordArgument { text: String },
    #[error("the range {text:?} is empty or too large; 1..10 is 1 to 10")]
    Range { text: String },
    #[error("cannot read {name}: {source}")]
    Read { name: String, source: io::Error },
    #[error("line {line} of {name} is not JSON: {problem}")]
    Line { name: String, line: u64, problem: String },
    #[error("{name} is not a JSON value: {problem}")]
    Common { name: String, problem: String },
    #[error("{integer} in {place} is beyond 64 bits, which no number keeps: make it a string")]
    Integer { place: String, integer: String },
    #[error("line {line} of {name} is longer than {MAX_ITEM_BYTES} bytes")]
    LongLine { name: String, line: u64 },
    #[error("line {line} of {name} is not UTF-8, from its byte {byte}; iconv can convert it")]
    Encoding { name: String, line: u64, byte: usize },
    #[error("item {position} of {name} is longer than {MAX_ITEM_BYTES} bytes")]
    LongItem { name: String, position: u64 },
    #[error("{name} is not a JSON array: {problem}")]
    Array { name: String, problem: String },
    #[error("item {position} of {name} (line {line} or below) has {count} field(s) instead of {expected}")]
    Fields { name: String, position: u64, line: u64, count: u64, expected: u64 },
    #[error(
        "item {position} of {name} (line {line} or below) is not UTF-8, in its field {field}; iconv can convert it"
    )]
    FieldEncoding { name: String, position: u64, line: u64, field: usize },
    #[error("the header of {name} has {field:?} twice; with --csv-no-header, a record is a list of its fields")]
    Header { name: String, field: String },
    #[error("{name} is longer than {MAX_ITEM_BYTES} bytes, the most that an item may have")]
    LongFile { name: String },
    #[error("cannot read {name} as CSV: the quote in line {line} is never closed, so that the rest would be one field")]
    OpenQuote { name: String, line: u64 },
    #[error("cannot read {name} as CSV: {problem}")]
    Csv { name: String, problem: String },
    #[error("--csv-no-header and --csv-numbers say what a CSV file is like: give it with --csv FILE")]
    NoCsv,
    #[error("a line is one string, and here an item is a list of arguments: use --csv, or one JSON array a line")]
    TextsAreNoLists,
    #[error("a file is one argument, and here an item is a list of arguments: use map, or imap without --star")]
    FilesAreNoLists,
    #[error("line {line} of {name} is no line of --output json: {problem}")]
    Outcome { name: String, line: u64, problem: String },
    #[error("{name} is what stdout goes to, from its start: append with `>> {name}`, or with `--output-file {name}`")]
    Overwritten { name: String },
    #[error(
        "the shell has emptied {name} before this command could read it, since stdout goes there: what was in it is gone. \
         Append with `>> {name}`, or with `--output-file {name}`"
    )]
    Emptied { name: String },
    #[error("{origin} names item {index}, but the list has {count} items, counted from 0; is it the right list?")]
    NoSuchItem { origin: String, index: u64, count: u64 },
}
