//! Request bodies, limited before they are buffered.
//!
//! gRPC puts five bytes before each message: a flag and the length. They are read here as they pass, so that a message
//! over the limit is refused at its first bytes, and so that all requests that are being received together stay within
//! one budget. The library's own limit is set higher and never speaks: its code would be the wrong one.
//!
//! A message that stops arriving half-way, or a first one that never comes, ends its call: nothing else would.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Sleep, sleep};
use tonic::Status;

use super::status;

/// The flag and the length before each message.
const PREFIX_BYTES: usize = 5;

/// How many bytes of requests may be in memory at a time, before the pool takes them over.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    limit: u64,
    used: AtomicU64,
}

impl ByteBudget {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    fn try_take(&self, bytes: u64) -> bool {
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|used| *used <= self.limit)
        });
        taken.is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Takes bytes for a request that is complete and that no pool has taken over yet, if there is room.
    pub(crate) fn try_hold(self: &Arc<Self>, bytes: u64) -> Option<HeldRequest> {
        self.try_take(bytes).then(|| HeldRequest { budget: Arc::clone(self), bytes })
    }

    /// Returns how many bytes there may be.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }
}

/// The bytes of a request that waits for a pool.
#[derive(Debug)]
pub(crate) struct HeldRequest {
    budget: Arc<ByteBudget>,
    bytes: u64,
}

impl Drop for HeldRequest {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// A request body that keeps to the limits.
///
/// A message counts against the budget from its first byte until the body is polled again after its last one: then the
/// handler has taken it.
#[derive(Debug)]
pub(crate) struct LimitedBody<B> {
    inner: B,
    limits: BodyLimits,
    budget: Arc<ByteBudget>,
    /// Taken from the budget, in all.
    taken: u64,
    /// How much of that belongs to the message that is not complete yet.
    incomplete: u64,
    prefix: Prefix,
    is_failed: bool,
    first_message: Arc<AtomicBool>,
    /// Ends when nothing has come for too long; `None` while something comes, or need not.
    stall: Option<Pin<Box<Sleep>>>,
}

/// What a request may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    /// The largest message.
    pub(crate) max_message_bytes: u32,
    /// The longest that a message may stop on its way.
    pub(crate) stall_timeout: Duration,
}

/// Where in the sequence of messages the body is.
#[derive(Debug, PartialEq, Eq)]
enum Prefix {
    /// Within the prefix; these of its bytes are known.
    Partial { bytes: [u8; PREFIX_BYTES], known: usize },
    /// Within a message, with so much to come.
    Message { remaining: usize },
}

const NO_PREFIX: Prefix = Prefix::Partial { bytes: [0; PREFIX_BYTES], known: 0 };

impl<B> LimitedBody<B> {
    pub(crate) fn new(inner: B, limits: BodyLimits, budget: Arc<ByteBudget>) -> Self {
        Self {
            inner,
            limits,
            budget,
            taken: 0,
            incomplete: 0,
            prefix: NO_PREFIX,
            is_failed: false,
            first_message: Arc::default(),
            stall: None,
        }
    }

    /// Returns what tells whether a whole message has come in.
    pub(crate) fn first_message(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.first_message)
    }

    /// Gives back what the handler has taken over.
    fn release_complete(&mut self) {
        self.budget.give_back(self.taken - self.incomplete);
        self.taken = self.incomplete;
    }

    /// Checks a piece of the body and counts it.
    fn admit(&mut self, data: &[u8]) -> Result<(), Status> {
        let bytes = data.len() as u64;
        if !self.budget.try_take(bytes) {
            return Err(status::request_bytes_exhausted(self.budget.limit));
        }
        self.taken += bytes;
        self.follow(data)
    }

    /// Walks the messages that a piece of the body has parts of.
    fn follow(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while !data.is_empty() {
            match &mut self.prefix {
                Prefix::Partial { bytes, known } => {
                    let missing = (PREFIX_BYTES - *known).min(data.len());
                    bytes[*known..*known + missing].copy_from_slice(&data[..missing]);
                    *known += missing;
                    data = &data[missing..];
                    self.incomplete += missing as u64;
                    if *known == PREFIX_BYTES {
                        let length = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
                        let limit = self.limits.max_message_bytes;
                        if length > limit {
                            return Err(status::request_too_large(length.into(), limit.into()));
                        }
                        self.enter_message(length as usize);
                    }
                }
                Prefix::Message { remaining } => {
                    let (passed, rest) = data.split_at(data.len().min(*remaining));
                    let remaining = *remaining - passed.len();
                    data = rest;
                    self.incomplete += passed.len() as u64;
                    self.enter_message(remaining);
                }
            }
        }
        Ok(())
    }

    fn enter_message(&mut self, remaining: usize) {
        if remaining > 0 {
            self.prefix = Prefix::Message { remaining };
        } else {
            self.prefix = NO_PREFIX;
            self.incomplete = 0;
            self.first_message.store(true, Ordering::Relaxed);
        }
    }
}

impl<B> LimitedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<tonic::codegen::StdError>,
{
    /// Waits for more of the body, but not for ever within a message. Between messages, a client may think.
    fn poll_inner(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            self.stall = None;
            // The library takes a CANCELLED for the proper end of a request. A hang-up is not one.
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| status::request_cut_short(&*error.into()))));
        }
        let is_between = self.incomplete == 0 && self.first_message.load(Ordering::Relaxed);
        if is_between {
            return Poll::Pending;
        }
        let timeout = self.limits.stall_timeout;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(timeout)));
        stall.as_mut().poll(context).map(|()| Some(Err(status::request_stalled(timeout))))
    }
}

impl<B> Body for LimitedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.is_failed {
            return Poll::Ready(None);
        }
        this.release_complete();
        let checked = match ready!(this.poll_inner(context)) {
            None => return Poll::Ready(None),
            Some(Ok(frame)) => frame.data_ref().map_or(Ok(()), |data| this.admit(data)).map(|()| frame),
            Some(Err(error)) => Err(error),
        };
        this.is_failed = checked.is_err();
        Poll::Ready(Some(checked))
    }

    fn is_end_stream(&self) -> bool {
        self.is_failed || self.inner.is_end_stream()
    }
}

impl<B> Drop for LimitedBody<B> {
    fn drop(&mut self) {
        self.budget.give_back(self.taken);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};
    use tonic::Code;

    use super::*;

    type Pieces = futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, std::io::Error>>>;

    fn body(pieces: Vec<Vec<u8>>, limit: u32, budget: &Arc<ByteBudget>) -> LimitedBody<StreamBody<Pieces>> {
        let frames: Vec<_> = pieces.into_iter().map(|piece| Ok(Frame::data(Bytes::from(piece)))).collect();
        LimitedBody::new(StreamBody::new(futures_util::stream::iter(frames)), limits(limit), Arc::clone(budget))
    }

    fn limits(max_message_bytes: u32) -> BodyLimits {
        BodyLimits { max_message_bytes, stall_timeout: Duration::from_secs(60) }
    }

    fn message(length: usize) -> Vec<u8> {
        let mut message = vec![0];
        message.extend(u32::try_from(length).unwrap().to_be_bytes());
        message.resize(PREFIX_BYTES + length, 7);
        message
    }

    fn used(budget: &ByteBudget) -> u64 {
        budget.used.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn messages_pass_however_they_are_cut() {
        let sent: Vec<u8> = [message(0), message(10), message(300), message(0), message(1)].concat();
        for piece_size in 1..40 {
            let budget = ByteBudget::new(1000);
            let pieces = sent.chunks(piece_size).map(<[u8]>::to_vec).collect();
            let received = body(pieces, 300, &budget).collect().await.unwrap().to_bytes();
            assert_eq!(received, sent);
            assert_eq!(used(&budget), 0);
        }
    }

    #[tokio::test]
    async fn a_message_over_the_limit_is_refused_at_its_prefix() {
        let budget = ByteBudget::new(1000);
        let mut limited = body(vec![message(10), message(11)[..PREFIX_BYTES].to_vec()], 10, &budget);
        assert!(limited.frame().await.unwrap().is_ok());
        let refused = limited.frame().await.unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(limited.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_message_counts_until_the_next_one_is_asked_for() {
        let budget = ByteBudget::new(1000);
        let half = message(45)[..25].to_vec();
        let mut limited = body(vec![[message(95), half.clone()].concat(), message(45)[25..].to_vec()], 100, &budget);
        limited.frame().await.unwrap().unwrap();
        assert_eq!(used(&budget), 125);
        limited.frame().await.unwrap().unwrap();
        assert_eq!(used(&budget), 50);
        drop(limited);
        assert_eq!(used(&budget), 0);
    }

    #[tokio::test]
    async fn past_the_budget_a_request_is_refused_and_may_be_retried() {
        let budget = ByteBudget::new(150);
        let mut first = body(vec![message(95)], 100, &budget);
        first.frame().await.unwrap().unwrap();
        let mut second = body(vec![message(95)], 100, &budget);
        let refused = second.frame().await.unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap().parse::<u32>().is_ok());
        drop(first);
        let mut third = body(vec![message(95)], 100, &budget);
        assert!(third.frame().await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_hang_up_is_not_the_end_of_a_request() {
        let budget = ByteBudget::new(1000);
        let hang_up = std::io::Error::other(Status::cancelled("h2 protocol error"));
        let frames = futures_util::stream::iter(vec![Err::<Frame<Bytes>, _>(hang_up)]);
        let mut limited = LimitedBody::new(StreamBody::new(frames), limits(100), budget);
        assert_ne!(limited.frame().await.unwrap().unwrap_err().code(), Code::Cancelled);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_stops_on_its_way_ends_its_call_and_a_pause_between_messages_does_not() {
        use futures_util::StreamExt as _;

        let hour = Duration::from_secs(3600);
        for (start, is_ended) in [(vec![], true), (message(10)[..7].to_vec(), true), (message(10), false)] {
            let first = Ok::<_, std::io::Error>(Frame::data(Bytes::from(start.clone())));
            let frames = futures_util::stream::iter([first]).chain(futures_util::stream::pending());
            let mut limited = LimitedBody::new(StreamBody::new(frames), limits(100), ByteBudget::new(1000));
            limited.frame().await.unwrap().unwrap();
            let next = tokio::time::timeout(hour, limited.frame()).await;
            assert_eq!(next.is_ok(), is_ended, "{start:?}");
            if let Ok(Some(next)) = next {
                assert_eq!(next.unwrap_err().code(), Code::Aborted);
            }
        }
    }
}
