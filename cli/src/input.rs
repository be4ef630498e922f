//! Items from the command line: JSON values, ranges, files and stdin. Read as they are asked for, never all at once.
//!
//! Which of them run is decided here too; what the forms of files look like is the business of the modules below.

mod array;
mod earlier_run;
mod error;
mod file_or_stdin;
mod item;
mod json;
mod lines;
mod quotes;
mod records;
mod source;

use std::io::{self, IsTerminal as _};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use self::earlier_run::EarlierRun;
pub(crate) use self::error::InputError;
pub(crate) use self::file_or_stdin::FileOrStdin;
use self::item::Take;
pub(crate) use self::item::{Item, ItemForm};
use self::records::CsvStyle;
use self::source::{Source, parse_source};
pub(crate) use self::source::{is_range, parse_common, parse_item};
use crate::list_args::ItemsArgs;
use crate::selection::Selection;

/// How many items are read ahead of the call.
const READ_AHEAD: usize = 64;

/// The items of a command line; parsed, and not yet read.
#[derive(Debug)]
pub(crate) struct Input {
    sources: Vec<Source>,
    form: ItemForm,
    /// Which of the items are to run.
    selection: Selection,
    /// Indexes that the list must have, and what names them.
    expected: Vec<(String, u64)>,
}

impl Input {
    /// `star`: each item is a list, the arguments of one call.
    pub(crate) fn parse(args: &ItemsArgs, star: bool, form: ItemForm) -> Result<Self, InputError> {
        let mut sources = args.items.iter().map(|text| parse_source(text, form)).collect::<Result<Vec<_>, _>>()?;
        sources.extend(args.file.iter().cloned().map(|path| Source::Values(FileOrStdin::File(path))));
        sources.extend(list_of(args, star)?);
        if sources.is_empty() {
            if io::stdin().is_terminal() {
                return Err(InputError::NoItems);
            }
            sources.push(Source::Values(FileOrStdin::Stdin));
        }
        sources.iter().filter_map(Source::file).try_for_each(FileOrStdin::check)?;
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

    /// Reads the items that are to run, blocking, until `take` breaks.
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
            // What follows is not selected, and may be endless.
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

/// The error that ended the items early.
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
fn list_of(args: &ItemsArgs, star: bool) -> Result<Option<Source>, InputError> {
    let list = &args.list;
    // Clap does not require what conflicts with another argument.
    if list.csv.is_none() && (list.csv_no_header || list.csv_numbers) {
        return Err(InputError::NoCsv);
    }
    let csv_style = CsvStyle { has_header: !list.csv_no_header, as_lists: star, with_numbers: list.csv_numbers };
    match (&list.each_line, &list.each_file) {
        (Some(_), _) if star => Err(InputError::TextsAreNoLists),
        (Some(path), _) => Ok(Some(Source::Texts(FileOrStdin::of(path)))),
        (_, Some(_)) if star => Err(InputError::FilesAreNoLists),
        (_, Some(path)) => Ok(Some(Source::Files(FileOrStdin::of(path)))),
        (None, None) => {
            let array = list.from_json.as_deref().map(|path| Source::Array(FileOrStdin::of(path)));
            Ok(array.or_else(|| list.csv.as_deref().map(|path| Source::Csv(FileOrStdin::of(path), csv_style))))
        }
    }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn input(sources: Vec<Source>, selection: &str) -> Input {
        Input { sources, form: ItemForm::Values, selection: selection.parse().unwrap(), expected: Vec::new() }
    }

    #[test]
    fn a_range_counts_both_ends() {
        let count = |sources, selection| input(sources, selection).count();
        assert_eq!(count(vec![Source::Range(1..=10), Source::Item(Item::Value(Value::Null))], "0-"), Some(11));
        assert_eq!(count(vec![Source::Range(1..=10), Source::Item(Item::Value(Value::Null))], "0,9-20"), Some(3));
        assert_eq!(count(vec![Source::Range(i64::MIN..=i64::MAX)], "0-"), None);
        assert_eq!(count(vec![Source::Values(FileOrStdin::Stdin)], "0-"), None);
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
        let sources = vec![Source::Range(0..=i64::MAX), Source::Values(FileOrStdin::File("/no/such/file".into()))];
        input(sources, "3,5-6").read(take).unwrap();
        assert_eq!(items, [3, 5, 6].map(|number| Item::Value(json!(number))));
    }
}
