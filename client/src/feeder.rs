//! The sending side of an IMapStream: takes items from the application as the server has room for them.
//!
//! It is the request body, polled by the connection; there is no task to own. It never ends by itself before the items
//! do: an end would tell the server that there are no more. When the call is given up, [`crate::transport`] cuts it off.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use futures_util::stream::BoxStream;
use procpool_items::ItemKind;
use procpool_proto::v1 as proto;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::CallError;
use crate::wire::Encoded;

/// The most items in a message; so that a long run of ready items does not keep the thread.
const MAX_BATCH_ITEMS: u64 = 1024;
/// A message is sent when it has this many bytes.
const MAX_BATCH_BYTES: usize = 256 << 10;
/// Room in a message for what is not an item.
const MESSAGE_OVERHEAD: usize = 64;

/// Encoded items of the application, one record each.
pub(crate) type ItemRecords = BoxStream<'static, Result<Bytes, Box<dyn std::error::Error + Send + Sync>>>;

/// How far a call has come, as the reading side tells the sending side.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// How many items the server will hold, in all.
    pub(crate) allowed: u64,
    /// How many results the application has taken, in all.
    pub(crate) taken: u64,
}

/// Why the sending side gave up; the reading side returns it to the application.
#[derive(Debug, Clone, Default)]
pub(crate) struct SendFailure(Arc<Mutex<Option<CallError>>>);

impl SendFailure {
    fn set(&self, error: CallError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub(crate) fn take(&self) -> Option<CallError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What the sending side is made of.
pub(crate) struct Feeder {
    pub(crate) config: proto::IMapStreamConfig,
    pub(crate) kind: ItemKind,
    pub(crate) items: SharedItems,
    pub(crate) max_message_bytes: usize,
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) failure: SendFailure,
}

/// The items of a call, until an attempt at it takes them.
#[derive(Clone)]
pub(crate) struct SharedItems(Arc<Mutex<Untaken>>);

struct Untaken {
    /// Only the latest attempt may take them: the body of an earlier one may not know yet that it is over.
    attempt: u32,
    items: Option<ItemRecords>,
}

impl SharedItems {
    pub(crate) fn new(items: ItemRecords) -> Self {
        Self(Arc::new(Mutex::new(Untaken { attempt: 0, items: Some(items) })))
    }

    fn begin(&self, attempt: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).attempt = attempt;
    }

    fn take(&self, attempt: u32) -> Option<ItemRecords> {
        let mut untaken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if untaken.attempt == attempt { untaken.items.take() } else { None }
    }
}

impl Feeder {
    /// Returns the messages to send in one attempt at the call. It takes the items when the server has room for the
    /// first; until then, another attempt can.
    pub(crate) fn requests(
        &self,
        attempt: u32,
        stop: CancellationToken,
    ) -> impl Stream<Item = proto::IMapStreamRequest> + Send + use<> {
        let Self { config, kind, items, max_message_bytes, progress, failure } = self;
        let (config, kind, items, failure) = (config.clone(), *kind, items.clone(), failure.clone());
        let mut progress = progress.clone();
        let max_item_bytes = max_message_bytes.saturating_sub(MESSAGE_OVERHEAD);
        items.begin(attempt);
        async_stream::stream! {
            let mut batches: Option<Batches> = None;
            yield proto::IMapStreamRequest { config: Some(config), ..Default::default() };
            let mut num_sent = 0;
            let mut num_reported = 0;
            loop {
                let Progress { allowed, taken } = *progress.borrow_and_update();
                if taken > num_reported {
                    num_reported = taken;
                    yield proto::IMapStreamRequest { results_taken: taken, ..Default::default() };
                }
                let room = allowed.saturating_sub(num_sent);
                if room > 0 && batches.is_none() {
                    match items.take(attempt) {
                        Some(items) => batches = Some(Batches { items, held: None, max_item_bytes }),
                        // Another attempt has taken the place of this one.
                        None => std::future::pending::<()>().await,
                    }
                }
                let batch = tokio::select! {
                    biased;
                    changed = progress.changed() => match changed {
                        Ok(()) => continue,
                        // The reading side is gone, and with it what stops this body.
                        Err(_) => std::future::pending().await,
                    },
                    batch = next_batch(&mut batches, num_sent, room), if room > 0 => batch,
                };
                match batch {
                    Batch::Items { list, count } => {
                        num_sent += count;
                        let items = Some(Encoded { kind, bytes: list }.into());
                        yield proto::IMapStreamRequest { items, ..Default::default() };
                    }
                    Batch::End => return,
                    Batch::Failed(error) => {
                        failure.set(error);
                        stop.cancel();
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    }
}

async fn next_batch(batches: &mut Option<Batches>, first_index: u64, room: u64) -> Batch {
    match batches {
        Some(batches) => std::future::poll_fn(|context| batches.poll_next(context, first_index, room)).await,
        None => std::future::pending().await,
    }
}

enum Batch {
    Items { list: Bytes, count: u64 },
    End,
    Failed(CallError),
}

/// Collects the items that are ready now.
struct Batches {
    items: ItemRecords,
    /// What was taken from the application and did not fit.
    held: Option<Held>,
    max_item_bytes: usize,
}

enum Held {
    Item(Bytes),
    End,
    Failed(CallError),
}

impl Held {
    /// Tells whether it is an item for which a batch of so many bytes has room. The first of a batch always fits.
    fn fits_behind(&self, num_bytes: usize) -> bool {
        matches!(self, Self::Item(record) if num_bytes + record.len() <= MAX_BATCH_BYTES)
    }
}

impl Batches {
    /// Returns at least one item, at most `room`; waits only for the first. Nothing is lost between polls: what is
    /// pending holds no items.
    fn poll_next(&mut self, context: &mut Context<'_>, first_index: u64, room: u64) -> Poll<Batch> {
        let mut list = BytesMut::new();
        let mut count = 0;
        while count < room.min(MAX_BATCH_ITEMS) {
            match self.poll_item(context, first_index + count) {
                Poll::Ready(held) if count > 0 && !held.fits_behind(list.len()) => {
                    self.held = Some(held);
                    break;
                }
                Poll::Ready(Held::Item(record)) => {
                    list.extend_from_slice(&record);
                    count += 1;
                }
                Poll::Ready(Held::End) => return Poll::Ready(Batch::End),
                Poll::Ready(Held::Failed(error)) => return Poll::Ready(Batch::Failed(error)),
                Poll::Pending if count > 0 => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Batch::Items { list: list.freeze(), count })
    }

    fn poll_item(&mut self, context: &mut Context<'_>, index: u64) -> Poll<Held> {
        if let Some(held) = self.held.take() {
            return Poll::Ready(held);
        }
        Poll::Ready(match ready!(Pin::new(&mut self.items).poll_next(context)) {
            None => Held::End,
            Some(Err(source)) => Held::Failed(CallError::Encode { index, source }),
            Some(Ok(record)) if record.len() > self.max_item_bytes => {
                let (length, limit) = (record.len(), self.max_item_bytes);
                let message = format!("item {index} has {length} bytes, over the limit of {limit} for one message");
                Held::Failed(CallError::MessageTooLarge { message })
            }
            Some(Ok(record)) => Held::Item(record),
        })
    }
}
