//! Cuts runs of results into response messages.
//!
//! What the pool delivers at once becomes one message, so that a fast function's results travel in thousands. A message
//! ends at about 1 MiB; a result is never split.

use bytes::Bytes;
use procpool_items::{ItemKind, Records, SlabProblem};
use procpool_pool::{ItemError, OnError, ResultRun};
use procpool_proto::v1;
use tonic::Status;

use super::error_context::ErrorContext;
use super::map::lay_end_to_end;
use super::status;

/// A message is closed before it would pass this size, or a part of the limit if that is less.
const TARGET_BYTES: usize = 1 << 20;
/// What an error takes in a message beside its text: details, tags and lengths.
const ERROR_OVERHEAD_BYTES: usize = 512;
/// What a message takes beside its results and errors.
const MESSAGE_OVERHEAD_BYTES: usize = 1 << 10;

/// A message is filled up to this size: what an HTTP/2 library does not take for an attack, however many wait unread.
const LEAST_BYTES: usize = 256;
/// What the tag and the length of the padding take.
const PADDING_OVERHEAD_BYTES: usize = 3;

/// Returns what a message of this size is filled up with.
///
/// A reader that sleeps cannot be told from one that reads: the server sees that it takes nothing only when the window
/// of its connection is full. Until then a slow function's results go out one by one, each in a frame.
pub(super) fn padding(num_bytes: usize) -> Bytes {
    static PADDING: [u8; LEAST_BYTES] = [0; LEAST_BYTES];
    let missing = LEAST_BYTES.saturating_sub(num_bytes);
    if missing == 0 {
        return Bytes::new();
    }
    Bytes::from_static(&PADDING[..missing.saturating_sub(PADDING_OVERHEAD_BYTES).max(1)])
}

/// The content of one `IMapResponse` or `IMapStreamResponse`.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ResultMessage {
    pub(super) first_index: u64,
    pub(super) indexes: Vec<u64>,
    pub(super) count: u64,
    pub(super) results: Bytes,
    pub(super) errors: Vec<v1::ItemError>,
    /// How much of the run is not needed any more when this message has been taken: what is cut is parts of it, and a
    /// part is whole in memory as long as any of it is.
    pub(super) num_bytes: u64,
}

/// Cuts runs of results into messages.
#[derive(Debug)]
pub(super) struct MessageCutter {
    context: ErrorContext,
    on_error: OnError,
    max_message_bytes: u32,
    target_bytes: usize,
}

impl MessageCutter {
    pub(super) fn new(context: ErrorContext, on_error: Option<OnError>, max_message_bytes: u32) -> Self {
        let target_bytes = TARGET_BYTES.min(max_message_bytes as usize / 4);
        Self { context, on_error: on_error.unwrap_or(OnError::Collect), max_message_bytes, target_bytes }
    }

    /// Returns the call that the messages belong to.
    pub(super) fn context(&self) -> &ErrorContext {
        &self.context
    }

    /// Cuts a run whose results are of this kind, one message at a time: what has not been asked for is not copied.
    pub(super) fn cut(&self, run: ResultRun, kind: ItemKind) -> CutRun<'_> {
        let num_bytes: usize = run.parts.iter().map(Bytes::len).sum();
        let is_whole = run.errors.is_empty() && num_bytes <= self.target_bytes;
        let ResultRun { first_index, indexes, count, parts, errors, .. } = run;
        let parts = parts.into_iter();
        CutRun { cutter: self, kind, first_index, indexes, count, errors, parts, part: None, num_cut: 0, is_whole }
    }
}

/// The messages of a run. Ends with the first error: a result is too large for any message and the call is to fail with
/// the first failure, or the run is not well-formed, which would be a bug of ours.
#[derive(Debug)]
pub(super) struct CutRun<'a> {
    cutter: &'a MessageCutter,
    kind: ItemKind,
    first_index: u64,
    indexes: Vec<u64>,
    count: u64,
    errors: Vec<ItemError>,
    parts: std::vec::IntoIter<Bytes>,
    /// The part that is being cut, and how many of its bytes are in messages.
    part: Option<(Bytes, usize)>,
    /// How many results are in messages.
    num_cut: usize,
    /// All of it fits into one message.
    is_whole: bool,
}

impl Iterator for CutRun<'_> {
    type Item = Result<ResultMessage, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        if std::mem::take(&mut self.is_whole) {
            return Some(Ok(self.whole()));
        }
        let message = self.next_message().transpose();
        if matches!(message, Some(Err(_))) {
            (self.parts, self.part) = (Vec::new().into_iter(), None);
        }
        message
    }
}

impl CutRun<'_> {
    fn whole(&mut self) -> ResultMessage {
        // A run that names its items has no first one.
        let first_index = if self.indexes.is_empty() { self.first_index } else { 0 };
        let results = lay_end_to_end(self.parts.by_ref().collect());
        let (indexes, num_bytes) = (std::mem::take(&mut self.indexes), results.len() as u64);
        ResultMessage { first_index, indexes, count: self.count, results, errors: Vec::new(), num_bytes }
    }

    /// Takes as many results as fit into one message, at least one.
    fn next_message(&mut self) -> Result<Option<ResultMessage>, Status> {
        let start = self.num_cut;
        let mut debug_budget = status::debug_budget(self.cutter.max_message_bytes);
        let (mut records, mut errors) = (Vec::new(), Vec::new());
        let (mut size, mut num_bytes) = (0, 0_u64);
        while let Some((part, first)) = self.part.take().or_else(|| Some((self.parts.next()?, 0))) {
            let mut position = first;
            // What follows each other is taken together, without a copy.
            let mut uncut = first;
            let mut is_full = false;
            let mut rest = Records::new(&part[first..]);
            while let Some(entry) = rest.next() {
                entry.map_err(|problem| self.malformed(problem))?;
                let end = part.len() - rest.num_bytes_left();
                let record_bytes = end - position;
                let index = self.index_of(self.num_cut);
                // The errors are few beside the results, and sorted.
                let error = self.errors.binary_search_by_key(&index, |error| error.index).ok();
                let error = error.map(|place| &self.errors[place]);
                let added = record_bytes + error.map_or(0, error_size);
                is_full = self.num_cut > start && size + added > self.cutter.target_bytes;
                if is_full {
                    break;
                }
                if let Some(error) = error {
                    errors.push(status::item_failed(error, &self.cutter.context, &mut debug_budget));
                }
                if record_bytes > self.cutter.max_message_bytes as usize - MESSAGE_OVERHEAD_BYTES {
                    records.push(part.slice(uncut..position));
                    records.push(self.refuse(index, record_bytes, &mut errors)?);
                    uncut = end;
                }
                size += added;
                (position, self.num_cut) = (end, self.num_cut + 1);
            }
            records.push(part.slice(uncut..position));
            if is_full {
                self.part = Some((part, position));
                break;
            }
            num_bytes += part.len() as u64;
        }
        if self.num_cut == start {
            return Ok(None);
        }
        let is_ordered = self.indexes.is_empty();
        records.retain(|entry: &Bytes| !entry.is_empty());
        Ok(Some(ResultMessage {
            first_index: if is_ordered { self.first_index + start as u64 } else { 0 },
            indexes: if is_ordered { Vec::new() } else { self.indexes[start..self.num_cut].to_vec() },
            count: (self.num_cut - start) as u64,
            results: lay_end_to_end(records),
            errors,
            num_bytes,
        }))
    }

    fn malformed(&self, problem: SlabProblem) -> Status {
        status::internal(&format!("results of a worker: {problem}"), &self.cutter.context)
    }

    /// Returns the index of the result at this offset in the run.
    fn index_of(&self, offset: usize) -> u64 {
        self.indexes.get(offset).copied().unwrap_or(self.first_index + offset as u64)
    }

    /// Returns the error in the place of a result that no message can carry.
    fn refuse(&self, index: u64, num_bytes: usize, errors: &mut Vec<v1::ItemError>) -> Result<Bytes, Status> {
        let (num_bytes, limit) = (num_bytes as u64, u64::from(self.cutter.max_message_bytes));
        if self.cutter.on_error == OnError::FailFast {
            return Err(status::result_too_large_for_call(index, num_bytes, limit, &self.cutter.context));
        }
        errors.push(status::result_too_large(index, num_bytes, limit));
        Ok(Bytes::from_static(self.kind.placeholder()))
    }
}

/// Returns about how many bytes an error takes in a message.
fn error_size(error: &ItemError) -> usize {
    // The traceback is bounded by the budget of the message, but may as well be shared fairly.
    ERROR_OVERHEAD_BYTES + error.failure.to_string().len()
}

#[cfg(test)]
mod tests {
    use procpool_items::{ItemSlab, SlabBuilder};
    use procpool_pool::ItemFailure;
    use tonic::Code;

    use super::super::error_context::Method;
    use super::*;

    fn cutter(on_error: OnError) -> MessageCutter {
        let context = ErrorContext {
            method: Method::IMap,
            function: "echo".to_owned(),
            request_id: String::new(),
            job: procpool_pool::JobNumber::default(),
            common_field: None,
            kind: ItemKind::Blobs,
        };
        MessageCutter::new(context, Some(on_error), 4 << 20)
    }

    fn messages_of(on_error: OnError, run: ResultRun) -> Result<Vec<ResultMessage>, Status> {
        cutter(on_error).cut(run, ItemKind::Blobs).collect()
    }

    fn run_of(blobs: &[Vec<u8>], errors: Vec<ItemError>) -> ResultRun {
        let mut builder = SlabBuilder::new();
        for blob in blobs {
            builder.push(blob);
        }
        let parts = vec![builder.take()];
        ResultRun { first_index: 10, count: blobs.len() as u64, parts, errors, ..ResultRun::default() }
    }

    fn raised(index: u64, message: &str) -> ItemError {
        let (kind, message, traceback) = (String::new(), message.to_owned(), "line\n".repeat(20_000));
        ItemError { index, failure: ItemFailure::Raised { kind, message, traceback, data: Bytes::new() } }
    }

    #[test]
    fn small_results_travel_together_and_uncopied() {
        let run = run_of(&vec![vec![7; 10]; 1000], Vec::new());
        let part = run.parts[0].clone();
        let messages = messages_of(OnError::Collect, run).unwrap();
        assert_eq!(messages.len(), 1);
        assert_eq!((messages[0].first_index, messages[0].count), (10, 1000));
        assert_eq!(messages[0].results.as_ptr(), part.as_ptr());
    }

    #[test]
    fn a_long_run_is_cut_and_nothing_is_lost() {
        let blobs = vec![vec![7; 300 << 10]; 7];
        let run = run_of(&blobs, vec![raised(12, "no")]);
        let whole = run.parts[0].clone();
        let messages = messages_of(OnError::Collect, run).unwrap();
        let shape: Vec<_> = messages.iter().map(|message| (message.first_index, message.count)).collect();
        assert_eq!(shape, [(10, 3), (13, 3), (16, 1)]);
        assert_eq!(lay_end_to_end(messages.iter().map(|message| message.results.clone()).collect()), whole);
        assert_eq!(messages[0].errors[0].index, 12);
        assert!(messages.iter().skip(1).all(|message| message.errors.is_empty()));
    }

    #[test]
    fn a_part_counts_until_the_last_of_it_is_in_a_message() {
        let mut run = run_of(&vec![vec![7; 300 << 10]; 7], Vec::new());
        run.parts.push(run_of(&[vec![1]], Vec::new()).parts[0].clone());
        run.count += 1;
        let lengths: Vec<u64> = run.parts.iter().map(|part| part.len() as u64).collect();
        let messages = messages_of(OnError::Collect, run).unwrap();
        let given_back: Vec<u64> = messages.iter().map(|message| message.num_bytes).collect();
        assert_eq!(given_back, [0, 0, lengths.iter().sum()], "it is in memory as a whole until then");
    }

    #[test]
    fn an_unordered_run_keeps_the_index_of_each_result() {
        let mut run = run_of(&vec![vec![7; 600 << 10]; 3], Vec::new());
        run.indexes = vec![5, 3, 9];
        let messages = messages_of(OnError::Collect, run).unwrap();
        let indexes: Vec<_> = messages.iter().map(|message| message.indexes.clone()).collect();
        assert_eq!(indexes, [[5], [3], [9]]);
    }

    #[test]
    fn many_errors_do_not_make_a_message_too_large() {
        let blobs = vec![Vec::new(); 10_000];
        let errors = (0..10_000).map(|offset| raised(10 + offset, &"x".repeat(100))).collect();
        let messages = messages_of(OnError::Collect, run_of(&blobs, errors)).unwrap();
        assert_eq!(messages.iter().map(|message| message.errors.len()).sum::<usize>(), 10_000);
        for message in &messages {
            let size: usize = message.errors.iter().map(prost::Message::encoded_len).sum();
            assert!(size < 3 * TARGET_BYTES, "{size}");
        }
    }

    #[test]
    fn a_result_too_large_for_any_message_fails_alone() {
        let blobs = [vec![1], vec![2; 5 << 20], vec![3]];
        let messages = messages_of(OnError::Collect, run_of(&blobs, Vec::new())).unwrap();
        let errors: Vec<_> = messages.iter().flat_map(|message| &message.errors).collect();
        assert_eq!(errors.iter().map(|error| error.index).collect::<Vec<_>>(), [11]);
        let results = lay_end_to_end(messages.iter().map(|message| message.results.clone()).collect());
        let slab = ItemSlab::parse(ItemKind::Blobs, results).unwrap();
        assert_eq!((0..3).map(|index| slab.item(index)).collect::<Vec<_>>(), [&[1][..], &[], &[3]]);

        let error = messages_of(OnError::FailFast, run_of(&blobs, Vec::new())).unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
    }
}
