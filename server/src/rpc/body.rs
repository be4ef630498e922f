//! Request bodies: taken out of the transport as they come, counted, and limited before they are buffered.
//!
//! gRPC puts five bytes before each message: a flag and the length. They are read here as they pass, so that a message
//! over the limit is refused at its first bytes, and so that all requests that are being received together stay within
//! one budget. The library's own limit is set higher and never applies: its code would be the wrong one.
//!
//! A body has two ends. The task of its stream has [`Intake::receive`] empty the transport whenever something has come,
//! even while the handler is busy with what came before: bytes in the transport are in no budget, and small frames that
//! wait there end the connection. The handler takes whole messages out of the other end. The sender may go on as far as
//! its window goes beyond what the handler has taken; only a message that is not complete, and that the handler waits
//! for, opens the window as it comes.
//!
//! A message that stops arriving half-way, a first one that never comes, and the end of a request of one message that never
//! comes end their calls: nothing else would.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tower::{ServiceExt as _, service_fn};

use super::message_buffer::{MessageBuffer, TooLong};
use super::status;
use crate::byte_budget::ByteBudget;
use crate::listener::{HttpService, Intake, RequestStream, STREAM, Source};

/// What any call may have waiting for its handler. Beyond that it has to leave half of the budget to others.
const FREE_AHEAD_BYTES: usize = 16 << 10;

/// What a request may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    /// The largest message.
    pub(crate) max_message_bytes: u32,
    /// The longest that a message may stop on its way.
    pub(crate) stall_timeout: Duration,
}

/// The body of a request behind the layer.
pub(super) type RequestBody = LimitedBody<RequestStream>;

/// Limits the messages of each request, and has the task of the stream receive them.
pub(super) fn layer<S: HttpService<RequestBody>>(
    inner: S,
    limits: BodyLimits,
    budget: Arc<ByteBudget>,
) -> impl HttpService<RequestStream> {
    service_fn(move |request: Request<RequestStream>| {
        let (inner, budget) = (inner.clone(), Arc::clone(&budget));
        async move {
            let is_stream = takes_stream(request.uri().path());
            let request = request.map(|body| LimitedBody::new(body, limits, budget, is_stream));
            let monitor = STREAM.get();
            monitor.set_request(request.body().intake());
            // What came with the headers is there at once.
            poll_fn(|context| {
                monitor.receive(context);
                Poll::Ready(())
            })
            .await;
            inner.oneshot(request).await
        }
    })
}

/// Tells whether a method takes a stream of requests. Any other is called when its request has ended.
fn takes_stream(path: &str) -> bool {
    path == "/procpool.v1.PoolService/IMapStream" || path.ends_with("/ServerReflectionInfo")
}

/// The end of a body that the handler has. When it is dropped, nothing more is received.
#[derive(Debug)]
pub(crate) struct LimitedBody<S> {
    shared: Arc<Shared<S>>,
    stall_timeout: Duration,
    /// While something is waited for that must come: until when, and how many bytes had come when that was set.
    stall: Option<(Pin<Box<Sleep>>, u64)>,
}

#[derive(Debug)]
struct Shared<S> {
    /// The method takes a stream of messages.
    is_stream: bool,
    has_arrived: Arc<AtomicBool>,
    state: Mutex<State<S>>,
}

#[derive(Debug)]
struct State<S> {
    /// `None`: nothing more comes, or is to come.
    source: Option<S>,
    buffer: MessageBuffer,
    /// Why nothing more comes.
    end: Option<Status>,
    /// How many bytes the handler has of the message that it is being given, or is at work on.
    handed: usize,
    /// How much the sender's window is less than at first.
    unopened: usize,
    /// How many bytes have come, in all.
    received: u64,
    budget: Arc<ByteBudget>,
    taken: u64,
    reader: Option<Waker>,
}

impl<S: Source> LimitedBody<S> {
    pub(crate) fn new(source: S, limits: BodyLimits, budget: Arc<ByteBudget>, is_stream: bool) -> Self {
        let state = State {
            source: Some(source),
            buffer: MessageBuffer::new(limits.max_message_bytes),
            end: None,
            handed: 0,
            unopened: 0,
            received: 0,
            budget,
            taken: 0,
            reader: None,
        };
        let shared = Arc::new(Shared { is_stream, has_arrived: Arc::default(), state: Mutex::new(state) });
        Self { shared, stall_timeout: limits.stall_timeout, stall: None }
    }

    /// Returns a flag that is set when so much has been received that the handler can begin: the first message of a stream,
    /// or the whole request.
    pub(crate) fn has_arrived(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.shared.has_arrived)
    }

    /// Returns the other end.
    pub(crate) fn intake(&self) -> Arc<dyn Intake> {
        Arc::clone(&self.shared) as Arc<dyn Intake>
    }

    /// Waits for more, but not for ever within a message. Between messages, a client may think.
    fn poll_stall(&mut self, context: &mut Context<'_>, is_between: bool, received: u64) -> Poll<Status> {
        if is_between {
            self.stall = None;
            return Poll::Pending;
        }
        let timeout = self.stall_timeout;
        let (due, had) = self.stall.get_or_insert_with(|| (Box::pin(sleep_until(Instant::now() + timeout)), received));
        loop {
            ready!(due.as_mut().poll(context));
            if *had == received {
                return Poll::Ready(status::request_stalled(timeout));
            }
            // Something has come since the timer was set.
            *had = received;
            due.as_mut().reset(Instant::now() + timeout);
        }
    }
}

impl<S> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Source> Intake for Shared<S> {
    fn receive(&self, context: &mut Context<'_>) {
        let mut state = self.lock();
        let had_message = state.buffer.has_message();
        while let Some(source) = &mut state.source {
            match source.poll_data(context) {
                Poll::Pending => break,
                Poll::Ready(None) => state.source = None,
                // The library takes a CANCELLED for the proper end of a request. A hang-up is not one.
                Poll::Ready(Some(Err(error))) => state.fail(status::request_cut_short(&*error)),
                Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
                Poll::Ready(Some(Ok(data))) => {
                    if let Err(refused) = state.admit(&data) {
                        state.fail(refused);
                    }
                }
            }
        }
        state.open_window();
        let has_arrived = if self.is_stream { state.buffer.has_message() } else { state.source.is_none() };
        if has_arrived {
            self.has_arrived.store(true, Ordering::Relaxed);
        }
        let has_news = state.source.is_none() || (state.buffer.has_message() && !had_message);
        let reader = if has_news { state.reader.take() } else { None };
        drop(state);
        if let Some(reader) = reader.filter(|reader| !reader.will_wake(context.waker())) {
            reader.wake();
        }
    }
}

impl<S> State<S> {
    fn give_back(&mut self, bytes: u64) {
        self.taken -= bytes;
        self.budget.give_back(bytes);
    }

    /// Ends the request before its end.
    fn fail(&mut self, error: Status) {
        self.source = None;
        self.buffer.clear();
        self.give_back(self.taken - self.handed as u64);
        self.end = Some(error);
    }
}

impl<S: Source> State<S> {
    /// Counts a piece of the body and keeps it.
    fn admit(&mut self, data: &[u8]) -> Result<(), Status> {
        let bytes = data.len() as u64;
        let is_taken = if self.ahead() > FREE_AHEAD_BYTES {
            self.budget.try_take_ahead(bytes)
        } else {
            self.budget.try_take(bytes)
        };
        if !is_taken {
            return Err(status::request_bytes_exhausted(self.budget.limit()));
        }
        self.taken += bytes;
        self.received += bytes;
        self.unopened += data.len();
        let limit = self.buffer.max_message_bytes();
        self.buffer
            .push(data)
            .map_err(|TooLong(announced)| status::request_too_large(announced.into(), limit.into()))?;
        Ok(())
    }

    /// Returns how many bytes wait for the handler, or are with it. A message that the handler waits for does not.
    fn ahead(&self) -> usize {
        if self.handed > 0 || self.buffer.has_message() { self.handed + self.buffer.len() } else { 0 }
    }

    /// Opens the sender's window, but for what waits.
    fn open_window(&mut self) {
        let bytes = self.unopened.saturating_sub(self.ahead());
        if let Some(source) = self.source.as_mut().filter(|_| bytes > 0) {
            source.open_window(bytes);
            self.unopened -= bytes;
        }
    }

    /// Returns what the handler gets now. It has done with the message that it had.
    fn next_part(&mut self) -> Option<Bytes> {
        if !self.buffer.is_handing_on() {
            let done = std::mem::take(&mut self.handed);
            self.give_back(done as u64);
        }
        let part = self.buffer.pop();
        self.handed += part.as_ref().map_or(0, Bytes::len);
        self.open_window();
        part
    }
}

impl<S: Source> Body for LimitedBody<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let (is_between, received) = {
            let mut state = this.shared.lock();
            if let Some(part) = state.next_part() {
                drop(state);
                this.stall = None;
                return Poll::Ready(Some(Ok(Frame::data(part))));
            }
            if let Some(error) = state.end.take() {
                return Poll::Ready(Some(Err(error)));
            }
            if state.source.is_none() {
                if state.buffer.has_part() {
                    let error = io::Error::new(io::ErrorKind::UnexpectedEof, "it ended within a message");
                    state.fail(status::request_cut_short(&error));
                }
                return Poll::Ready(state.end.take().map(Err));
            }
            state.reader = Some(context.waker().clone());
            (this.shared.has_arrived.load(Ordering::Relaxed) && !state.buffer.has_part(), state.received)
        };
        let stalled = ready!(this.poll_stall(context, is_between, received));
        let mut state = this.shared.lock();
        state.fail(stalled);
        Poll::Ready(state.end.take().map(Err))
    }
}

impl<S> Drop for LimitedBody<S> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.source = None;
        state.buffer.clear();
        let taken = state.taken;
        state.give_back(taken);
    }
}

#[cfg(test)]
mod tests;
