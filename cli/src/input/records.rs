//! CSV: a record is an object by the header row, or the list of its fields.

use std::io;
use std::ops::ControlFlow;

use csv::{ErrorKind, ReaderBuilder, StringRecord};
use serde_json::{Map, Number, Value};

use super::error::InputError;
use super::file_or_stdin::{BudgetedReader, FileOrStdin};
use super::item::{Item, ItemForm, Take};
use super::quotes::{OpenQuote, Quoted};

/// What a record becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CsvStyle {
    pub(crate) has_header: bool,
    /// A record is the list of its fields even if their names are known.
    pub(crate) as_lists: bool,
    /// What is written like a JSON number is one.
    pub(crate) with_numbers: bool,
}

pub(super) fn read(
    file: &FileOrStdin,
    style: CsvStyle,
    form: ItemForm,
    take: Take<'_>,
) -> Result<ControlFlow<()>, InputError> {
    let (reader, budget) = BudgetedReader::new(file.open()?);
    let (reader, open_quote) = Quoted::new(reader);
    let mut reader = ReaderBuilder::new().has_headers(style.has_header).from_reader(reader);
    let mut num_taken = 0;
    let problem = |error: csv::Error, num_taken| problem_of(file, error, num_taken);
    let header =
        if style.has_header { Some(reader.headers().map_err(|error| problem(error, 0))?.clone()) } else { None };
    check_closed(file, &open_quote)?;
    let names = header.filter(|_| !style.as_lists);
    if let Some(name) = names.as_ref().and_then(first_repeated) {
        return Err(InputError::Header { name: file.name(), field: name.to_owned() });
    }
    let mut record = StringRecord::new();
    loop {
        let has_record = reader.read_record(&mut record);
        // What is wrong then is the quote, whatever that makes of the fields.
        check_closed(file, &open_quote)?;
        if !has_record.map_err(|error| problem(error, num_taken))? {
            return Ok(ControlFlow::Continue(()));
        }
        budget.reset();
        num_taken += 1;
        let values = record.iter().map(|field| value_of(field, style.with_numbers));
        let item = match &names {
            Some(names) => Value::Object(names.iter().map(str::to_owned).zip(values).collect::<Map<_, _>>()),
            None => values.collect(),
        };
        if take(Item::of(item, form)).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
}

/// Looks whether the file has ended within quotes: the rest of it is one field then.
fn check_closed(file: &FileOrStdin, quote: &OpenQuote) -> Result<(), InputError> {
    match quote.line_at_end() {
        None => Ok(()),
        Some(line) => Err(InputError::OpenQuote { name: file.name(), line }),
    }
}

fn first_repeated(names: &StringRecord) -> Option<&str> {
    let mut seen = std::collections::HashSet::new();
    names.iter().find(|name| !seen.insert(*name))
}

fn value_of(field: &str, with_numbers: bool) -> Value {
    let number = if with_numbers { number_of(field) } else { None };
    number.map_or_else(|| Value::from(field), Value::Number)
}

/// Returns the number that a field is, if nothing is lost by taking it for one: `007` is none, nor is `1_000`, nor what
/// has more than 64 bits.
fn number_of(field: &str) -> Option<Number> {
    let number: Number = serde_json::from_str(field).ok()?;
    let is_integer = field.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let has_spaces = field.trim_ascii().len() < field.len();
    (!has_spaces && (!is_integer || !number.is_f64())).then_some(number)
}

fn problem_of(file: &FileOrStdin, error: csv::Error, num_taken: u64) -> InputError {
    let name = file.name();
    match error.into_kind() {
        ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            InputError::LongItem { name, position: num_taken }
        }
        ErrorKind::Io(error) => file.cannot_read(error),
        ErrorKind::UnequalLengths { pos, expected_len, len } => {
            InputError::Fields { name, position: num_taken, line: line_of(pos), count: len, expected: expected_len }
        }
        ErrorKind::Utf8 { pos, err } => {
            InputError::FieldEncoding { name, position: num_taken, line: line_of(pos), field: err.field() + 1 }
        }
        other => InputError::Csv { name, problem: format!("{other:?}") },
    }
}

/// Returns where a record begins, or the empty lines before it.
fn line_of(position: Option<csv::Position>) -> u64 {
    position.map_or(0, |position| position.line())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_those_that_lose_nothing() {
        for (field, expected) in [
            ("7", Some(json!(7))),
            ("-7", Some(json!(-7))),
            ("1.50", Some(json!(1.5))),
            ("1e3", Some(json!(1000.0))),
            ("18446744073709551615", Some(json!(u64::MAX))),
            ("18446744073709551616", None),
            ("007", None),
            ("+7", None),
            (" 7", None),
            ("7 ", None),
            (".5", None),
            ("1e999", None),
            ("NaN", None),
            ("-", None),
            ("", None),
            ("true", None),
            ("1,5", None),
        ] {
            assert_eq!(number_of(field).map(Value::Number), expected, "{field:?}");
        }
    }
}
