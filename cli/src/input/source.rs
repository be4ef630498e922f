//! Where items come from: what an argument of the command line names, and how each kind of source is read.

use std::ops::{ControlFlow, RangeInclusive};

use serde_json::Value;

use super::error::InputError;
use super::file_or_stdin::FileOrStdin;
use super::item::{Item, ItemForm, Take};
use super::records::CsvStyle;
use super::{array, lines, records};

/// Where items come from, in the order of the command line.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    Item(Item),
    Range(RangeInclusive<i64>),
    /// One JSON value a line.
    Values(FileOrStdin),
    /// One string a line.
    Texts(FileOrStdin),
    /// The path of one file a line.
    Files(FileOrStdin),
    Array(FileOrStdin),
    Csv(FileOrStdin, CsvStyle),
}

impl Source {
    pub(super) fn file(&self) -> Option<&FileOrStdin> {
        match self {
            Self::Item(_) | Self::Range(_) => None,
            Self::Values(file) | Self::Texts(file) | Self::Files(file) | Self::Array(file) | Self::Csv(file, _) => {
                Some(file)
            }
        }
    }

    /// Reads the items, blocking. Breaks when `take` does.
    pub(super) fn read(self, form: ItemForm, take: Take<'_>) -> Result<ControlFlow<()>, InputError> {
        match self {
            Self::Item(item) => Ok(take(item)),
            Self::Range(mut range) => Ok(range.try_for_each(|number| take(Item::of(Value::from(number), form)))),
            Self::Values(file) => lines::read_values(&file, form, take),
            Self::Texts(file) => lines::read_texts(&file, form, take),
            Self::Files(file) => lines::read_files(&file, take),
            Self::Array(file) => array::read(&file, form, take),
            Self::Csv(file, style) => records::read(&file, style, form, take),
        }
    }
}

pub(super) fn parse_source(text: &str, form: ItemForm) -> Result<Source, InputError> {
    // There is a space before a range that looks like a flag.
    let text = text.trim();
    if text == "-" || text == "@-" {
        return Ok(Source::Values(FileOrStdin::Stdin));
    }
    if let Some(path) = text.strip_prefix('@') {
        return Ok(Source::Values(FileOrStdin::File(path.into())));
    }
    if let Some((first, last)) = text.split_once("..")
        && is_integer(first)
        && is_integer(last)
    {
        let range = first.parse().ok().zip(last.parse().ok()).filter(|(first, last): &(i64, i64)| first <= last);
        let (first, last) = range.ok_or_else(|| InputError::Range { text: text.to_owned() })?;
        return Ok(Source::Range(first..=last));
    }
    parse_item(text, form).map(Source::Item)
}

/// Returns whether an argument is a range: two integers with two dots between them.
pub(crate) fn is_range(text: &str) -> bool {
    text.split_once("..").is_some_and(|(first, last)| is_integer(first) && is_integer(last))
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Parses one argument as JSON.
pub(crate) fn parse_item(text: &str, form: ItemForm) -> Result<Item, InputError> {
    Item::parse(text.as_bytes(), form)
        .map_err(|error| error.at("an argument", |problem| InputError::Argument { text: text.to_owned(), problem }))
}

/// Parses the argument that all items share: JSON, or `@FILE` for a file that holds one value.
pub(crate) fn parse_common(text: &str, form: ItemForm) -> Result<Item, InputError> {
    let Some(path) = text.strip_prefix('@') else { return parse_item(text, form) };
    let json = std::fs::read(path).map_err(|source| InputError::Read { name: path.to_owned(), source })?;
    Item::parse(&json, form)
        .map_err(|error| error.at(path, |problem| InputError::Common { name: path.to_owned(), problem }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments() {
        let value = |value: Value| Some(Source::Item(Item::Value(value)));
        for (text, expected) in [
            ("7", value(json!(7))),
            ("-7", value(json!(-7))),
            ("1.0", value(json!(1.0))),
            ("\"text\"", value(json!("text"))),
            ("[2,10]", value(json!([2, 10]))),
            ("null", value(Value::Null)),
            ("\"1..2\"", value(json!("1..2"))),
            ("1..10", Some(Source::Range(1..=10))),
            ("-3..-1", Some(Source::Range(-3..=-1))),
            (" -3..1", Some(Source::Range(-3..=1))),
            ("5..5", Some(Source::Range(5..=5))),
            ("@items.json", Some(Source::Values(FileOrStdin::File("items.json".into())))),
            ("-", Some(Source::Values(FileOrStdin::Stdin))),
            ("@-", Some(Source::Values(FileOrStdin::Stdin))),
            ("10..1", None),
            ("1..99999999999999999999", None),
            ("1..", None),
            ("..2", None),
            ("1...2", None),
            ("text", None),
            ("", None),
            ("[1,", None),
        ] {
            assert_eq!(parse_source(text, ItemForm::Values).ok(), expected, "{text:?}");
        }
    }
}
