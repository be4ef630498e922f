//! Items from the command line: JSON values, ranges, files and stdin. Read as they are asked for, never slurped.
//!
//! Which of them run is decided here too; what the forms of files look like is the business of the modules below.

mod array;
mod item;
mod json;
mod lines;
mod place;
mod quotes;
mod records;

use std::io::{self, IsTerminal as _};
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{Stream, StreamExt as _};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

pub(crate) use self::item::{Item, ItemForm};
pub(crate) use self::json::problem_of;
pub(crate) use self::lines::Lines;
pub(crate) use self::place::Place;
use self::records::CsvStyle;
use crate::call::Style;
use crate::list_args::ItemsArgs;
use crate::retry::EarlierRun;
use crate::selection::Selection;

/// The longest line of a file, or item in one, in bytes: no message could hold more.
const MAX_ITEM_BYTES: u64 = 64 << 20;
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

/// Takes an item; says whether there should be more.
type Take<'a> = &'a mut dyn FnMut(Item) -> ControlFlow<()>;

/// Where items come from, in the order of the command line.
#[derive(Debug, Clone, PartialEq)]
enum Source {
    Item(Item),
    Range(RangeInclusive<i64>),
    /// One JSON value a line.
    Values(Place),
    /// One string a line.
    Texts(Place),
    /// The path of one file a line.
    Files(Place),
    Array(Place),
    Csv(Place, CsvStyle),
}

impl Source {
    fn place(&self) -> Option<&Place> {
        match self {
            Self::Item(_) | Self::Range(_) => None,
            Self::Values(place)
            | Self::Texts(place)
            | Self::Files(place)
            | Self::Array(place)
            | Self::Csv(place, _) => Some(place),
        }
    }

    /// Reads the items, blocking. Breaks when they are not wanted any more.
    fn read(self, form: ItemForm, take: Take<'_>) -> Result<ControlFlow<()>, InputError> {
        match self {
            Self::Item(item) => Ok(take(item)),
            Self::Range(mut range) => Ok(range.try_for_each(|number| take(Item::of(Value::from(number), form)))),
            Self::Values(place) => lines::read_values(&place, form, take),
            Self::Texts(place) => lines::read_texts(&place, form, take),
            Self::Files(place) => lines::read_files(&place, take),
            Self::Array(place) => array::read(&place, form, take),
            Self::Csv(place, style) => records::read(&place, style, form, take),
        }
    }
}

/// The items of a command line; parsed, and not yet read.
#[derive(Debug)]
pub(crate) struct Input {
    sources: Vec<Source>,
    form: ItemForm,
    /// Which of the items are to run.
    selection: Selection,
    /// Items that must be there, and who says so.
    expected: Vec<(String, u64)>,
}

impl Input {
    pub(crate) fn parse(args: &ItemsArgs, style: Style, form: ItemForm) -> Result<Self, InputError> {
        let mut sources = args.items.iter().map(|text| parse_source(text, form)).collect::<Result<Vec<_>, _>>()?;
        sources.extend(args.file.iter().cloned().map(|path| Source::Values(Place::File(path))));
        sources.extend(list_of(args, style)?);
        if sources.is_empty() {
            if io::stdin().is_terminal() {
                return Err(InputError::NoItems);
            }
            sources.push(Source::Values(Place::Stdin));
        }
        sources.iter().filter_map(Source::place).try_for_each(Place::check)?;
        let (selection, expected) = selection_of(args)?;
        Ok(Self { sources, form, selection, expected })
    }

    /// Returns which of the items are to run.
    pub(crate) fn selection(&self) -> &Selection {
        &self.selection
    }

    /// Returns the number of items to run, if that is known without reading them.
    pub(crate) fn count(&self) -> Option<u64> {
        let num_items = self.sources.iter().try_fold(0_u64, |count, source| match source {
            Source::Item(_) => count.checked_add(1),
            Source::Range(range) => count.checked_add(range.end().abs_diff(*range.start()).checked_add(1)?),
            Source::Values(_) | Source::Texts(_) | Source::Files(_) | Source::Array(_) | Source::Csv(..) => None,
        });
        num_items.map(|count| self.selection.count_below(count))
    }

    /// Reads the items that are to run, blocking, until they are not wanted any more.
    fn read(self, take: Take<'_>) -> Result<(), InputError> {
        let Self { sources, form, selection, expected } = self;
        let last_expected = expected.iter().map(|(_, index)| *index).max();
        let Some(last) = selection.last().max(last_expected) else { return Ok(()) };
        let mut num_read = 0;
        let mut take_selected = |item| {
            let index = num_read;
            num_read += 1;
            if selection.contains(index) {
                take(item)?;
            }
            // What follows is read by nobody, and may be endless.
            if index == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        for source in sources {
            if source.read(form, &mut take_selected)?.is_break() {
                return Ok(());
            }
        }
        match expected.into_iter().find(|(_, index)| *index >= num_read) {
            None => Ok(()),
            Some((origin, index)) => Err(InputError::NoSuchItem { origin, index, count: num_read }),
        }
    }

    /// Returns the items as a stream that ends at the first error, and where that error will be.
    ///
    /// They are read by a thread of their own, a few ahead: stdin may block for ever. Nobody joins the thread; it ends
    /// with the items, when the stream is dropped, or with the process.
    pub(crate) fn into_stream(self) -> (impl Stream<Item = Item> + Send + 'static, InputFailure) {
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let reader = std::thread::Builder::new().name("read-items".to_owned()).spawn(move || {
            let result = self.read(&mut |item| match sender.blocking_send(Ok(item)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            });
            if let Err(error) = result {
                // The call may be over.
                let _ = sender.blocking_send(Err(error));
            }
        });
        let failure = InputFailure::default();
        if let Err(source) = reader {
            failure.set(InputError::Read { name: "the items".to_owned(), source });
        }
        let kept = failure.clone();
        let items = ReceiverStream::new(receiver)
            .filter_map(move |item| std::future::ready(item.map_err(|error| kept.set(error)).ok()));
        (items, failure)
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

/// Returns the one list that the arguments name, if they do.
fn list_of(args: &ItemsArgs, style: Style) -> Result<Option<Source>, InputError> {
    let list = &args.list;
    // Clap does not require what conflicts with another argument.
    if list.csv.is_none() && (list.csv_no_header || list.csv_numbers) {
        return Err(InputError::NoCsv);
    }
    if let Some(path) = &list.each_line {
        return match style {
            Style::Map => Ok(Some(Source::Texts(Place::of(path)))),
            Style::Star => Err(InputError::TextsAreNoLists),
        };
    }
    if let Some(path) = &list.each_file {
        return match style {
            Style::Map => Ok(Some(Source::Files(Place::of(path)))),
            Style::Star => Err(InputError::FilesAreNoLists),
        };
    }
    let csv_style =
        CsvStyle { has_header: !list.csv_no_header, as_lists: style == Style::Star, with_numbers: list.csv_numbers };
    let array = list.from_json.as_deref().map(|path| Source::Array(Place::of(path)));
    Ok(array.or_else(|| list.csv.as_deref().map(|path| Source::Csv(Place::of(path), csv_style))))
}

/// Returns which items are to run, and which must be there: those that are named, here or by an earlier run.
fn selection_of(args: &ItemsArgs) -> Result<(Selection, Vec<(String, u64)>), InputError> {
    let mut selection = Selection::all();
    let mut expected = Vec::new();
    if let Some(only) = &args.list.only {
        selection = only.clone();
        expected.extend(only.last_named().map(|index| ("--only".to_owned(), index)));
    }
    for path in &args.list.retry_failed {
        let earlier = EarlierRun::read(path, args.output.output_file.as_deref())?;
        selection = selection.intersection(&earlier.done.complement());
        expected.extend(earlier.last.map(|index| (path.display().to_string(), index)));
    }
    Ok((selection, expected))
}

fn parse_source(text: &str, form: ItemForm) -> Result<Source, InputError> {
    // There is a space before a range that looks like a flag.
    let text = text.trim();
    if text == "-" || text == "@-" {
        return Ok(Source::Values(Place::Stdin));
    }
    if let Some(path) = text.strip_prefix('@') {
        return Ok(Source::Values(Place::File(path.into())));
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

/// Tells whether an argument is a range: two integers with two dots between them.
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
            ("@items.json", Some(Source::Values(Place::File("items.json".into())))),
            ("-", Some(Source::Values(Place::Stdin))),
            ("@-", Some(Source::Values(Place::Stdin))),
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

    fn input(sources: Vec<Source>, selection: &str) -> Input {
        Input { sources, form: ItemForm::Values, selection: selection.parse().unwrap(), expected: Vec::new() }
    }

    #[test]
    fn a_range_counts_both_ends() {
        let count = |sources, selection| input(sources, selection).count();
        assert_eq!(count(vec![Source::Range(1..=10), Source::Item(Item::Value(Value::Null))], "0-"), Some(11));
        assert_eq!(count(vec![Source::Range(1..=10), Source::Item(Item::Value(Value::Null))], "0,9-20"), Some(3));
        assert_eq!(count(vec![Source::Range(i64::MIN..=i64::MAX)], "0-"), None);
        assert_eq!(count(vec![Source::Values(Place::Stdin)], "0-"), None);
        let mut items = Vec::new();
        let take = &mut |item| {
            items.push(item);
            ControlFlow::Continue(())
        };
        input(vec![Source::Range(-1..=1)], "0-").read(take).unwrap();
        assert_eq!(items, [-1, 0, 1].map(|number| Item::Value(json!(number))));
    }

    #[test]
    fn nothing_is_read_behind_the_last_item_that_counts() {
        let mut items = Vec::new();
        let take = &mut |item| {
            items.push(item);
            ControlFlow::Continue(())
        };
        let sources = vec![Source::Range(0..=i64::MAX), Source::Values(Place::File("/no/such/file".into()))];
        input(sources, "3,5-6").read(take).unwrap();
        assert_eq!(items, [3, 5, 6].map(|number| Item::Value(json!(number))));
    }
}
