//! The results of a call as they come.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use procpool_items::{Encoded, ItemSlab};
use procpool_proto::v1 as proto;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::DropGuard;
use tonic::Status;

use crate::encoded::EncodedBatch;
use crate::error::{CallError, ItemError};
use crate::item_sender::{Credit, SendFailure};
use crate::payload::{Decoder, parse_results};
use crate::status::{call_error, deadline_exceeded, item_error};

/// The result of one item of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemResult<R> {
    /// The index of the item in the caller's list, from 0.
    pub index: u64,
    /// What the function returned, or the error of the item.
    pub result: Result<R, ItemError>,
}

/// Returns a message of an IMap as one of an IMapStream, which has the same fields and more.
pub(crate) fn of_imap(message: proto::IMapResponse) -> proto::IMapStreamResponse {
    let proto::IMapResponse { first_index, indexes, results, errors, .. } = message;
    let results = results.map(|results| Encoded::from(results).into());
    proto::IMapStreamResponse { first_index, indexes, results, errors, ..Default::default() }
}

/// The reading side's handle on the sending side of an IMapStream.
#[derive(Debug)]
pub(crate) struct SenderHandle {
    pub(crate) credit: watch::Sender<Credit>,
    pub(crate) failure: SendFailure,
    /// Stops the request body when the stream is dropped.
    pub(crate) _stop: DropGuard,
}

/// The results of a call as they come; ends with the last one or with an error.
///
/// Dropping it cancels the call on the server. [`ResultStream::try_next`] reads it; it is a [`Stream`] too.
#[must_use = "dropping the stream cancels the call"]
pub struct ResultStream<R> {
    /// `None` after the end or an error.
    messages: Option<BoxStream<'static, Result<proto::IMapStreamResponse, Status>>>,
    /// A message that arrived while the call was started.
    early: Option<proto::IMapStreamResponse>,
    batch: ResultBatch,
    decoder: Decoder<R>,
    deadline: Option<Pin<Box<Sleep>>>,
    sending: Option<SenderHandle>,
}

impl<R> fmt::Debug for ResultStream<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ResultStream").field("ended", &self.messages.is_none()).finish_non_exhaustive()
    }
}

impl<R> ResultStream<R> {
    /// Sends the request without waiting for the answer.
    pub(crate) async fn start(
        messages: BoxStream<'static, Result<proto::IMapStreamResponse, Status>>,
        decoder: Decoder<R>,
        deadline: Option<Instant>,
        sending: Option<SenderHandle>,
    ) -> Result<Self, CallError> {
        let deadline = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
        let mut started =
            Self { messages: Some(messages), early: None, batch: ResultBatch::default(), decoder, deadline, sending };
        let first = std::future::poll_fn(|context| Poll::Ready(started.poll_message(context))).await;
        if let Poll::Ready(Some(message)) = first {
            started.early = Some(message?);
        }
        Ok(started)
    }

    /// Returns the next result; `None` after the last.
    ///
    /// # Errors
    ///
    /// If the call as a whole fails; the stream has ended then. A failed item is no such error: it is in
    /// [`ItemResult::result`]. [`CallError::Decode`] concerns one item, and the stream goes on after it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn try_next(&mut self) -> Result<Option<ItemResult<R>>, CallError> {
        self.next().await.transpose()
    }

    fn poll_message(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<proto::IMapStreamResponse, CallError>>> {
        if let Some(message) = self.early.take() {
            return Poll::Ready(Some(Ok(message)));
        }
        let Some(messages) = &mut self.messages else { return Poll::Ready(None) };
        if let Poll::Ready(next) = messages.poll_next_unpin(context) {
            let result = next.map(|message| message.map_err(|status| self.failure(status)));
            if !matches!(result, Some(Ok(_))) {
                self.messages = None;
            }
            return Poll::Ready(result);
        }
        // The server reports the deadline first, with its reason; this is for a server that does not.
        let deadline = self.deadline.as_mut().map(|deadline| deadline.as_mut().poll(context));
        if deadline == Some(Poll::Ready(())) {
            self.end();
            return Poll::Ready(Some(Err(deadline_exceeded())));
        }
        Poll::Pending
    }

    fn failure(&self, status: Status) -> CallError {
        self.sending.as_ref().and_then(|sending| sending.failure.take()).unwrap_or_else(|| call_error(status))
    }

    /// Cancels the call.
    fn end(&mut self) {
        self.messages = None;
        self.sending = None;
    }

    /// Reports to the sending side how many results the application has taken: when none is left, or when they are a
    /// quarter of what the server may run ahead.
    fn report_taken(&mut self) {
        let Some(sending) = &self.sending else { return };
        let taken = self.batch.num_taken();
        let batch_is_over = self.batch.is_over();
        sending.credit.send_if_modified(|credit| {
            let quarter = (credit.allowed.saturating_sub(credit.taken) / 4).max(1);
            let worth_telling = taken > credit.taken && (batch_is_over || taken - credit.taken >= quarter);
            if worth_telling {
                credit.taken = taken;
            }
            worth_telling
        });
    }

    /// Has the sending side send as many items as the server allows now.
    fn allow(&self, items: u64) {
        if let Some(sending) = &self.sending {
            sending.credit.send_if_modified(|credit| {
                let is_more = items > credit.allowed;
                credit.allowed = credit.allowed.max(items);
                is_more
            });
        }
    }

    fn accept(&mut self, message: proto::IMapStreamResponse) -> Result<(), CallError> {
        self.allow(message.items_allowed);
        self.batch = ResultBatch::new(message, self.batch.num_taken())?;
        Ok(())
    }
}

impl ResultStream<Bytes> {
    /// Returns the results of the next message, as they are; `None` after the last. It may have none, and only allow more
    /// items. Not to be mixed with [`ResultStream::try_next`], which counts what the application has taken; here that is
    /// for the caller to report.
    ///
    /// # Errors
    ///
    /// If the call as a whole fails; the stream has ended then.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn next_batch(&mut self) -> Result<Option<EncodedBatch>, CallError> {
        let message = std::future::poll_fn(|context| self.poll_message(context)).await.transpose()?;
        let Some(message) = message else { return Ok(None) };
        self.allow(message.items_allowed);
        EncodedBatch::new(message).map(Some).inspect_err(|_| self.end())
    }

    /// Returns what reports how many results the application has taken. `None` if the server does not want to know.
    pub fn taken(&self) -> Option<TakenReporter> {
        self.sending.as_ref().map(|sending| TakenReporter(sending.credit.clone()))
    }
}

/// Reports how many results of a stream the application has taken.
#[derive(Debug, Clone)]
pub struct TakenReporter(watch::Sender<Credit>);

impl TakenReporter {
    /// Reports the number of results taken since the start of the call.
    pub fn report(&self, num_taken: u64) {
        self.0.send_if_modified(|credit| {
            let is_more = num_taken > credit.taken;
            credit.taken = credit.taken.max(num_taken);
            is_more
        });
    }
}

impl<R> Stream for ResultStream<R> {
    type Item = Result<ItemResult<R>, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            this.report_taken();
            if let Some((index, result)) = this.batch.next() {
                let decoder = this.decoder;
                let result = match result {
                    Err(error) => Err(error),
                    Ok(bytes) => match decoder(bytes) {
                        Ok(result) => Ok(result),
                        Err(source) => return Poll::Ready(Some(Err(CallError::Decode { index, source }))),
                    },
                };
                return Poll::Ready(Some(Ok(ItemResult { index, result })));
            }
            let message = match ready!(this.poll_message(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(message)) => message,
            };
            if let Err(error) = this.accept(message) {
                this.end();
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

/// The results of one message, and how many of them the application has taken.
#[derive(Debug, Default)]
struct ResultBatch {
    first_index: u64,
    indexes: Vec<u64>,
    results: Option<ItemSlab>,
    errors: VecDeque<ItemError>,
    position: usize,
    num_taken_before: u64,
}

impl ResultBatch {
    fn new(message: proto::IMapStreamResponse, num_taken_before: u64) -> Result<Self, CallError> {
        let proto::IMapStreamResponse { first_index, indexes, results, errors, .. } = message;
        let results = results.map(|results| parse_results(results.into())).transpose()?;
        let count = results.as_ref().map_or(0, ItemSlab::len);
        if !indexes.is_empty() && indexes.len() != count {
            let message = format!("{} indexes came with {count} results", indexes.len());
            return Err(CallError::Protocol { message });
        }
        let errors = errors.into_iter().map(item_error).collect();
        Ok(Self { first_index, indexes, results, errors, position: 0, num_taken_before })
    }

    /// Number of results of the call that the application has taken.
    fn num_taken(&self) -> u64 {
        self.num_taken_before + self.position as u64
    }

    fn is_over(&self) -> bool {
        self.results.as_ref().is_none_or(|results| self.position == results.len())
    }

    fn next(&mut self) -> Option<(u64, Result<Bytes, ItemError>)> {
        if self.is_over() {
            return None;
        }
        let results = self.results.as_ref()?;
        let index = self.indexes.get(self.position).copied().unwrap_or(self.first_index + self.position as u64);
        // Errors are sorted by index; the results of an unordered batch are not.
        let error = self.errors.iter().position(|error| error.index == index).and_then(|at| self.errors.remove(at));
        let result = error.map_or_else(|| Ok(results.item_to_keep(self.position)), Err);
        self.position += 1;
        Some((index, result))
    }
}
