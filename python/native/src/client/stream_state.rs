//! What the two sides of a stream share: items on their way out, and results on their way in. All of it is bounded.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use procpool_client::{Call, CallError as Error, EncodedBatch, EncodedList, IMap, ResultStream, TakenReporter};
use procpool_items::ItemKind;
use tokio::sync::Notify;

use super::monitor::Monitor;
use super::results::Batch;

/// A message of items is not to be larger, unless it is one item.
const MAX_LIST_BYTES: usize = 256 << 10;
const MAX_LIST_ITEMS: usize = 1024;
/// From so many bytes on, that the connection has not taken yet, sending waits.
const MAX_UNSENT_BYTES: usize = 4 << 20;
/// From so many bytes of results on, that the application has not taken yet, no more are read.
const MAX_UNREAD_BYTES: usize = 8 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// That of the items.
    Items,
    /// As they finish.
    Completion,
}

/// The state of a stream.
pub(crate) struct Shared {
    pub(crate) state: Monitor<State>,
    /// The application has taken results.
    taken: Notify,
    kind: ItemKind,
}

pub(crate) struct State {
    /// How many items may be ahead of the results that the application has taken; 0: what the server allows.
    window: u64,
    unsent: VecDeque<EncodedList>,
    /// The end of what is unsent, to which items are appended.
    tail: Vec<u8>,
    tail_count: usize,
    num_unsent_bytes: usize,
    /// Number of items so far, unsent ones included.
    num_items: u64,
    /// Number of items that the server accepts.
    allowed: u64,
    has_all_items: bool,
    /// What waits for items.
    sender: Option<Waker>,

    pub(crate) unread: VecDeque<Batch>,
    num_unread_bytes: usize,
    num_taken: u64,
    num_reported: u64,
    reporter: Option<TakenReporter>,
    pub(crate) end: Option<End>,
}

pub(crate) enum End {
    /// All results have come, or the error was raised.
    Complete,
    Failed(Error),
    Cancelled,
}

impl Shared {
    pub(crate) fn new(kind: ItemKind, window: u32) -> Self {
        let state = State {
            window: u64::from(window),
            unsent: VecDeque::new(),
            tail: Vec::new(),
            tail_count: 0,
            num_unsent_bytes: 0,
            num_items: 0,
            allowed: 0,
            has_all_items: false,
            sender: None,
            unread: VecDeque::new(),
            num_unread_bytes: 0,
            num_taken: 0,
            num_reported: 0,
            reporter: None,
            end: None,
        };
        Self { state: Monitor::new(state), taken: Notify::new(), kind }
    }

    /// Returns the next message of items.
    pub(crate) fn poll_items(&self, context: &Context<'_>) -> Poll<Option<EncodedList>> {
        self.state.change(|state| {
            state.cut_tail(self.kind);
            if let Some(list) = state.unsent.pop_front() {
                state.num_unsent_bytes -= list.bytes.len();
                return Poll::Ready(Some(list));
            }
            if state.has_all_items {
                return Poll::Ready(None);
            }
            state.sender = Some(context.waker().clone());
            Poll::Pending
        })
    }

    /// Appends items, of which there is room for that many.
    pub(crate) fn append(&self, state: &mut State, list: &[u8], count: usize) {
        state.tail.extend_from_slice(list);
        state.tail_count += count;
        state.num_unsent_bytes += list.len();
        state.num_items += count as u64;
        if state.tail.len() >= MAX_LIST_BYTES || state.tail_count >= MAX_LIST_ITEMS {
            state.cut_tail(self.kind);
        }
        state.wake_sender();
    }

    /// Makes the call and reads its results, until it ends.
    pub(crate) async fn run(self: Arc<Self>, call: Call<IMap<Bytes>>) {
        let guard = EndGuard(self);
        let end = match guard.0.read(call).await {
            Ok(()) => End::Complete,
            Err(error) => End::Failed(error),
        };
        guard.0.end(end);
    }

    async fn read(&self, call: Call<IMap<Bytes>>) -> Result<(), Error> {
        let mut results: ResultStream<Bytes> = call.await?;
        self.state.lock().reporter = results.taken();
        loop {
            while self.state.lock().num_unread_bytes >= MAX_UNREAD_BYTES {
                self.taken.notified().await;
            }
            match results.next_batch().await? {
                Some(batch) => self.state.change(|state| state.receive(batch)),
                None => return Ok(()),
            }
        }
    }

    /// Ends the stream, unless it has ended.
    pub(crate) fn end(&self, end: End) {
        self.state.change(|state| {
            if state.end.is_none() {
                state.end = Some(end);
            }
            state.unsent.clear();
            state.num_unsent_bytes = 0;
            (state.tail, state.tail_count) = (Vec::new(), 0);
        });
    }

    /// Drops what nobody will take.
    pub(crate) fn cancel(&self) {
        self.end(End::Cancelled);
        self.state.change(|state| (state.unread, state.num_unread_bytes) = (VecDeque::new(), 0));
    }

    /// Puts back what is left of the batches that were taken out, and counts the results that the application has taken.
    pub(crate) fn put_back(&self, mut left: VecDeque<Batch>, num_taken: u64) {
        let mut state = self.state.lock();
        // Between, more may have come.
        left.append(&mut state.unread);
        state.num_unread_bytes = left.iter().map(Batch::num_bytes).sum();
        state.unread = left;
        state.count_taken(num_taken);
        drop(state);
        self.taken.notify_one();
    }
}

impl State {
    /// Returns how many more items may be sent; `None` if there can be no more.
    pub(crate) fn room(&self) -> Option<usize> {
        if self.has_all_items || self.end.is_some() {
            return None;
        }
        if self.num_unsent_bytes >= MAX_UNSENT_BYTES {
            return Some(0);
        }
        let in_window = if self.window == 0 { u64::MAX } else { self.num_taken + self.window };
        let room = self.allowed.min(in_window).saturating_sub(self.num_items);
        Some(usize::try_from(room).unwrap_or(usize::MAX))
    }

    /// There are no more items.
    pub(crate) fn finish(&mut self) {
        self.has_all_items = true;
        self.wake_sender();
    }

    fn wake_sender(&mut self) {
        if let Some(sender) = self.sender.take() {
            sender.wake();
        }
    }

    fn cut_tail(&mut self, kind: ItemKind) {
        if self.tail_count > 0 {
            let (bytes, count) = (std::mem::take(&mut self.tail).into(), std::mem::take(&mut self.tail_count));
            self.unsent.push_back(EncodedList { kind, bytes, count });
        }
    }

    fn receive(&mut self, batch: EncodedBatch) {
        self.allowed = self.allowed.max(batch.items_allowed);
        if batch.results.count > 0 {
            let batch = Batch::new(batch);
            self.num_unread_bytes += batch.num_bytes();
            self.unread.push_back(batch);
        }
    }

    /// Reports what was taken when nothing is left, or when it is a quarter of what the server may run ahead.
    fn count_taken(&mut self, num_taken: u64) {
        self.num_taken += num_taken;
        let quarter = (self.allowed.saturating_sub(self.num_taken) / 4).max(1);
        let num_unreported = self.num_taken - self.num_reported;
        if num_unreported >= quarter || self.unread.is_empty() && num_unreported > 0 {
            if let Some(reporter) = &self.reporter {
                reporter.report(self.num_taken);
            }
            self.num_reported = self.num_taken;
        }
    }
}

/// Sees to it that a stream ends, whatever becomes of its task.
struct EndGuard(Arc<Shared>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.end(End::Cancelled);
    }
}
