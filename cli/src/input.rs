//! Items from the command line: JSON values, ranges, files and stdin. Read as they are asked for, never slurped.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _, Read as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{Stream, StreamExt as _};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::args::ItemsArgs;

/// The longest line of a file, in bytes: no message could hold more.
const MAX_LINE_BYTES: u64 = 64 << 20;
/// How many items are read ahead of the call.
const READ_AHEAD: usize = 64;

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
    #[error("line {line} of {name} is longer than {MAX_LINE_BYTES} bytes")]
    LongLine { name: String, line: u64 },
}

type Item = Result<Value, InputError>;

/// Where items come from, in the order of the command line.
#[derive(Debug, Clone, PartialEq)]
enum Source {
    Value(Value),
    Range(RangeInclusive<i64>),
    File(PathBuf),
    Stdin,
}

/// The items of a command line; parsed, and not yet read.
#[derive(Debug)]
pub(crate) struct Input {
    sources: Vec<Source>,
}

impl Input {
    pub(crate) fn parse(args: &ItemsArgs) -> Result<Self, InputError> {
        let mut sources = args.items.iter().map(|text| parse_source(text)).collect::<Result<Vec<_>, _>>()?;
        sources.extend(args.file.iter().cloned().map(Source::File));
        if sources.is_empty() {
            if io::stdin().is_terminal() {
                return Err(InputError::NoItems);
            }
            sources.push(Source::Stdin);
        }
        Ok(Self { sources })
    }

    /// Returns the number of items, if that is known without reading them.
    pub(crate) fn count(&self) -> Option<u64> {
        self.sources.iter().try_fold(0_u64, |count, source| match source {
            Source::Value(_) => count.checked_add(1),
            Source::Range(range) => count.checked_add(range.end().abs_diff(*range.start()).checked_add(1)?),
            Source::File(_) | Source::Stdin => None,
        })
    }

    /// Reads the items, blocking.
    pub(crate) fn into_items(self) -> impl Iterator<Item = Item> + Send {
        self.sources.into_iter().flat_map(|source| -> Box<dyn Iterator<Item = Item> + Send> {
            match source {
                Source::Value(value) => Box::new(std::iter::once(Ok(value))),
                Source::Range(range) => Box::new(range.map(|number| Ok(Value::from(number)))),
                Source::Stdin => Box::new(Lines::new("stdin".to_owned(), BufReader::new(io::stdin()))),
                Source::File(path) => match File::open(&path) {
                    Ok(file) => Box::new(Lines::new(name_of(&path), BufReader::new(file))),
                    Err(source) => Box::new(std::iter::once(Err(InputError::Read { name: name_of(&path), source }))),
                },
            }
        })
    }

    /// Returns the items as a stream that ends at the first error, and where that error will be.
    ///
    /// They are read by a thread of their own, a few ahead: stdin may block for ever. Nobody joins the thread; it ends
    /// with the items, when the stream is dropped, or with the process.
    pub(crate) fn into_stream(self) -> (impl Stream<Item = Value> + Send + 'static, InputFailure) {
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let items = self.into_items();
        let reader = std::thread::Builder::new().name("read-items".to_owned()).spawn(move || {
            for item in items {
                let is_last = item.is_err();
                if sender.blocking_send(item).is_err() || is_last {
                    return;
                }
            }
        });
        let failure = InputFailure::default();
        if let Err(source) = reader {
            failure.set(InputError::Read { name: "the items".to_owned(), source });
        }
        let kept = failure.clone();
        let values = ReceiverStream::new(receiver)
            .filter_map(move |item| std::future::ready(item.map_err(|error| kept.set(error)).ok()));
        (values, failure)
    }
}

/// Why the items ended before they should have.
#[derive(Debug, Clone, Default)]
pub(crate) struct InputFailure(Arc<Mutex<Option<InputError>>>);

impl InputFailure {
    fn set(&self, error: InputError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub(crate) fn take(&self) -> Option<InputError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn name_of(path: &Path) -> String {
    path.display().to_string()
}

fn parse_source(text: &str) -> Result<Source, InputError> {
    if text == "-" || text == "@-" {
        return Ok(Source::Stdin);
    }
    if let Some(path) = text.strip_prefix('@') {
        return Ok(Source::File(path.into()));
    }
    if let Some((first, last)) = text.split_once("..")
        && is_integer(first)
        && is_integer(last)
    {
        let range = first.parse().ok().zip(last.parse().ok()).filter(|(first, last): &(i64, i64)| first <= last);
        let (first, last) = range.ok_or_else(|| InputError::Range { text: text.to_owned() })?;
        return Ok(Source::Range(first..=last));
    }
    parse_value(text).map(Source::Value)
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Parses one argument as JSON.
pub(crate) fn parse_value(text: &str) -> Result<Value, InputError> {
    serde_json::from_str(text)
        .map_err(|error| InputError::Argument { text: text.to_owned(), problem: problem_of(&error) })
}

/// Parses the argument that all items share: JSON, or `@FILE` for a file that holds one value.
pub(crate) fn parse_common(text: &str) -> Result<Value, InputError> {
    let Some(path) = text.strip_prefix('@').map(Path::new) else { return parse_value(text) };
    let name = name_of(path);
    let json = std::fs::read(path).map_err(|source| InputError::Read { name: name.clone(), source })?;
    serde_json::from_slice(&json).map_err(|error| InputError::Line {
        name,
        line: error.line() as u64,
        problem: problem_of(&error),
    })
}

/// Returns what is wrong with a line of JSON, and where; serde's own words say `line 1` of any line.
fn problem_of(error: &serde_json::Error) -> String {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = error.to_string();
    format!("{} at column {}", text.strip_suffix(&place).unwrap_or(&text), error.column())
}

/// The JSON values of a file, one a line. Empty lines are none. Ends after an error.
struct Lines<R> {
    name: String,
    reader: R,
    line_number: u64,
    buffer: Vec<u8>,
    is_over: bool,
}

impl<R: BufRead> Lines<R> {
    fn new(name: String, reader: R) -> Self {
        Self { name, reader, line_number: 0, buffer: Vec::new(), is_over: false }
    }

    /// Reads the next line that is not empty; `None` at the end.
    fn next_line(&mut self) -> Result<Option<Value>, InputError> {
        loop {
            self.buffer.clear();
            let mut limited = (&mut self.reader).take(MAX_LINE_BYTES + 1);
            let length = limited
                .read_until(b'\n', &mut self.buffer)
                .map_err(|source| InputError::Read { name: self.name.clone(), source })?;
            if length == 0 {
                return Ok(None);
            }
            self.line_number += 1;
            if length as u64 > MAX_LINE_BYTES {
                return Err(InputError::LongLine { name: self.name.clone(), line: self.line_number });
            }
            let line = self.buffer.trim_ascii();
            if !line.is_empty() {
                let value = serde_json::from_slice(line);
                return value.map(Some).map_err(|error| InputError::Line {
                    name: self.name.clone(),
                    line: self.line_number,
                    problem: problem_of(&error),
                });
            }
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        if self.is_over {
            return None;
        }
        let next = self.next_line().transpose();
        self.is_over = !matches!(next, Some(Ok(_)));
        next
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments() {
        let value = |value: Value| Some(Source::Value(value));
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
            ("5..5", Some(Source::Range(5..=5))),
            ("@items.json", Some(Source::File("items.json".into()))),
            ("-", Some(Source::Stdin)),
            ("@-", Some(Source::Stdin)),
            ("10..1", None),
            ("1..99999999999999999999", None),
            ("1..", None),
            ("..2", None),
            ("1...2", None),
            ("text", None),
            ("", None),
            ("[1,", None),
        ] {
            assert_eq!(parse_source(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_range_counts_both_ends() {
        let input = |sources| Input { sources };
        assert_eq!(input(vec![Source::Range(1..=10), Source::Value(Value::Null)]).count(), Some(11));
        assert_eq!(input(vec![Source::Range(i64::MIN..=i64::MAX)]).count(), None);
        assert_eq!(input(vec![Source::Stdin]).count(), None);
        let items: Vec<_> = input(vec![Source::Range(-1..=1)]).into_items().map(Result::unwrap).collect();
        assert_eq!(items, [json!(-1), json!(0), json!(1)]);
    }

    #[test]
    fn lines_are_values_and_empty_lines_are_none() {
        let lines = Lines::new("file".to_owned(), "1\n\n [2] \r\n\"x\"".as_bytes());
        assert_eq!(lines.map(Result::unwrap).collect::<Vec<_>>(), [json!(1), json!([2]), json!("x")]);
    }

    #[test]
    fn a_bad_line_is_named_and_ends_the_items() {
        let lines: Vec<_> = Lines::new("file".to_owned(), "1\n\nx\n2\n".as_bytes()).collect();
        assert_eq!(lines.len(), 2);
        let error = lines[1].as_ref().unwrap_err().to_string();
        assert_eq!(error, "line 3 of file is not JSON: expected value at column 1");
    }
}
