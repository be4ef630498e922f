//! The sending side of an IMapStream: takes items from the application as the server allows them.
//!
//! It is the request body, polled by the connection; there is no task to own. It never ends by itself before the items
//! do: an end would tell the server that there are no more. When the call is cancelled, [`crate::transport`] ends it
//! with an error.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use procpool_items::{Encoded, ItemKind};
use procpool_proto::v1 as proto;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::encoded::EncodedList;
use crate::error::CallError;

/// The most items in a message, so that many ready items do not block the thread.
const MAX_BATCH_ITEMS: u64 = 1024;
/// A message is sent when it has this many bytes.
const MAX_BATCH_BYTES: usize = 256 << 10;
/// Upper bound of the bytes in a message that are not items.
const MESSAGE_OVERHEAD: usize = 64;

/// Encoded items of the application, one record each.
pub(crate) type ItemRecords = BoxStream<'static, Result<Bytes, Box<dyn std::error::Error + Send + Sync>>>;

/// Encoded lists of items.
pub(crate) type ItemLists = BoxStream<'static, EncodedList>;

/// The items of the application.
pub(crate) enum ItemInput {
    /// One by one: they are combined into messages.
    Records(ItemRecords),
    /// In lists, which are the messages: each is within what the server allows.
    Lists(ItemLists),
}

/// What the server allows and the application has taken; the reading side updates it, the sending side acts on it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Credit {
    /// Number of items that the server accepts, counted from the start of the call.
    pub(crate) allowed: u64,
    /// Number of results that the application has taken, counted from the start of the call.
    pub(crate) taken: u64,
}

/// The error that ended the sending side; the reading side returns it to the application.
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

/// Sends the items of a call; one for all attempts.
pub(crate) struct ItemSender {
    pub(crate) config: proto::IMapStreamConfig,
    pub(crate) kind: ItemKind,
    pub(crate) items: SharedItems,
    pub(crate) max_message_bytes: usize,
    pub(crate) credit: watch::Receiver<Credit>,
    pub(crate) failure: SendFailure,
}

/// The items of a call, until an attempt at it takes them.
#[derive(Clone)]
pub(crate) struct SharedItems(Arc<Mutex<UnclaimedItems>>);

struct UnclaimedItems {
    /// Only the latest attempt may take them: the body of an earlier one may not know yet that it is over.
    attempt: u32,
    items: Option<ItemInput>,
}

impl SharedItems {
    pub(crate) fn new(items: ItemInput) -> Self {
        Self(Arc::new(Mutex::new(UnclaimedItems { attempt: 0, items: Some(items) })))
    }

    fn begin(&self, attempt: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).attempt = attempt;
    }

    fn take(&self, attempt: u32) -> Option<ItemInput> {
        let mut unclaimed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if unclaimed.attempt == attempt { unclaimed.items.take() } else { None }
    }
}

impl ItemSender {
    /// Returns the messages to send in one attempt at the call. It takes the items when the server allows the first; until
    /// then, another attempt can.
    pub(crate) fn requests(
        &self,
        attempt: u32,
        stop: CancellationToken,
    ) -> impl Stream<Item = proto::IMapStreamRequest> + Send + use<> {
        let Self { config, kind, items, max_message_bytes, credit, failure } = self;
        let (config, kind, items, failure) = (config.clone(), *kind, items.clone(), failure.clone());
        let mut credit = credit.clone();
        let max_item_bytes = max_message_bytes.saturating_sub(MESSAGE_OVERHEAD);
        items.begin(attempt);
        async_stream::stream! {
            let mut batches: Option<Batches> = None;
            yield proto::IMapStreamRequest { config: Some(config), ..Default::default() };
            let mut num_sent = 0;
            let mut num_reported = 0;
            loop {
                let Credit { allowed, taken } = *credit.borrow_and_update();
                if taken > num_reported {
                    num_reported = taken;
                    yield proto::IMapStreamRequest { results_taken: taken, ..Default::default() };
                }
                let num_allowed = allowed.saturating_sub(num_sent);
                if num_allowed > 0 && batches.is_none() {
                    match items.take(attempt) {
                        Some(items) => batches = Some(Batches::new(items, max_item_bytes)),
                        // A later attempt has the items.
                        None => std::future::pending::<()>().await,
                    }
                }
                // Their end is to be seen also if no more are allowed; to look at a list takes nothing from an iterator.
                let are_lists = matches!(batches, Some(Batches::Lists(_)));
                let batch = tokio::select! {
                    biased;
                    changed = credit.changed() => match changed {
                        Ok(()) => continue,
                        // The reading side is gone, and with it what stops this body.
                        Err(_) => std::future::pending().await,
                    },
                    batch = next_batch(&mut batches, num_sent, num_allowed), if num_allowed > 0 || are_lists => batch,
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

async fn next_batch(batches: &mut Option<Batches>, first_index: u64, num_allowed: u64) -> Batch {
    match batches {
        Some(Batches::OfRecords(batches)) => {
            std::future::poll_fn(|context| batches.poll_next(context, first_index, num_allowed)).await
        }
        Some(Batches::Lists(lists)) => lists.next(num_allowed).await,
        None => std::future::pending().await,
    }
}

enum Batch {
    Items { list: Bytes, count: u64 },
    End,
    Failed(CallError),
}

enum Batches {
    OfRecords(RecordBatches),
    Lists(ListBatches),
}

impl Batches {
    fn new(items: ItemInput, max_item_bytes: usize) -> Self {
        match items {
            ItemInput::Records(items) => Self::OfRecords(RecordBatches { items, peeked: None, max_item_bytes }),
            ItemInput::Lists(lists) => Self::Lists(ListBatches { lists, peeked: None }),
        }
    }
}

/// Sends lists as they are.
struct ListBatches {
    lists: ItemLists,
    peeked: Option<EncodedList>,
}

impl ListBatches {
    /// Returns the next list when the server allows it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    async fn next(&mut self, num_allowed: u64) -> Batch {
        if self.peeked.is_none() {
            self.peeked = self.lists.next().await;
        }
        match self.peeked.take_if(|list| list.count as u64 <= num_allowed) {
            Some(EncodedList { bytes, count, .. }) => Batch::Items { list: bytes, count: count as u64 },
            None if self.peeked.is_none() => Batch::End,
            // Until the server allows more.
            None => std::future::pending().await,
        }
    }
}

/// Collects ready items into messages.
struct RecordBatches {
    items: ItemRecords,
    /// The item that was taken from the application and did not fit into the last message.
    peeked: Option<NextItem>,
    max_item_bytes: usize,
}

enum NextItem {
    Item(Bytes),
    End,
    Failed(CallError),
}

impl NextItem {
    /// Returns whether it is an item that fits into a batch of `num_bytes`. The first of a batch always fits.
    fn fits_behind(&self, num_bytes: usize) -> bool {
        matches!(self, Self::Item(record) if num_bytes + record.len() <= MAX_BATCH_BYTES)
    }
}

impl RecordBatches {
    /// Returns at least one item, at most `num_allowed`; waits only for the first. Nothing is lost between polls: what is
    /// pending holds no items.
    fn poll_next(&mut self, context: &mut Context<'_>, first_index: u64, num_allowed: u64) -> Poll<Batch> {
        let mut list = BytesMut::new();
        let mut count = 0;
        while count < num_allowed.min(MAX_BATCH_ITEMS) {
            match self.poll_item(context, first_index + count) {
                Poll::Ready(peeked) if count > 0 && !peeked.fits_behind(list.len()) => {
                    self.peeked = Some(peeked);
                    break;
                }
                Poll::Ready(NextItem::Item(record)) => {
                    list.extend_from_slice(&record);
                    count += 1;
                }
                Poll::Ready(NextItem::End) => return Poll::Ready(Batch::End),
                Poll::Ready(NextItem::Failed(error)) => return Poll::Ready(Batch::Failed(error)),
                Poll::Pending if count > 0 => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Batch::Items { list: list.freeze(), count })
    }

    fn poll_item(&mut self, context: &mut Context<'_>, index: u64) -> Poll<NextItem> {
        if let Some(peeked) = self.peeked.take() {
            return Poll::Ready(peeked);
        }
        Poll::Ready(match ready!(Pin::new(&mut self.items).poll_next(context)) {
            None => NextItem::End,
            Some(Err(source)) => NextItem::Failed(CallError::Encode { index, source }),
            Some(Ok(record)) if record.len() > self.max_item_bytes => {
                let (length, limit) = (record.len(), self.max_item_bytes);
                let message = format!("item {index} has {length} bytes, over the limit of {limit} for one message");
                NextItem::Failed(CallError::MessageTooLarge { message })
            }
            Some(Ok(record)) => NextItem::Item(record),
        })
    }
}
