//! HTTP/2 on one connection: the handshake, requests as they come, keepalive, and graceful shutdown.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};

use super::keepalive::Keepalive;
use super::stream::RequestStream;

/// A connection, which ends when its client closes it, or after a graceful shutdown. Calls `answer` for each request.
pub(super) struct Http2Connection<T, A> {
    state: State<T>,
    answer: A,
    keepalive: (Duration, Duration),
    /// Data of a request has arrived since keepalive last checked.
    is_active: Arc<AtomicBool>,
    is_leaving: bool,
}

enum State<T> {
    Handshake(Handshake<T, Bytes>),
    Open { connection: Connection<T, Bytes>, keepalive: Option<Keepalive> },
}

/// Why a connection failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error(transparent)]
    Http2(#[from] h2::Error),
    #[error("the peer does not answer pings")]
    Unanswered,
}

impl<T, A> Http2Connection<T, A>
where
    T: AsyncRead + AsyncWrite + Unpin,
    A: FnMut(Request<RequestStream>, SendResponse<Bytes>) + Unpin,
{
    /// Starts the handshake. `keepalive` is how long the peer may be silent before it gets a ping, and how long it has to
    /// answer.
    pub(super) fn new(builder: &Builder, io: T, keepalive: (Duration, Duration), answer: A) -> Self {
        let state = State::Handshake(builder.handshake(io));
        Self { state, answer, keepalive, is_active: Arc::default(), is_leaving: false }
    }

    /// Asks the client to open no more streams. The connection ends with the last one.
    pub(super) fn graceful_shutdown(mut self: Pin<&mut Self>) {
        self.is_leaving = true;
        if let State::Open { connection, .. } = &mut self.state {
            connection.graceful_shutdown();
        }
    }
}

impl<T, A> Future for Http2Connection<T, A>
where
    T: AsyncRead + AsyncWrite + Unpin,
    A: FnMut(Request<RequestStream>, SendResponse<Bytes>) + Unpin,
{
    type Output = Result<(), ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Handshake(handshake) => {
                    let mut connection = ready!(Pin::new(handshake).poll(context))?;
                    if this.is_leaving {
                        connection.graceful_shutdown();
                    }
                    let (interval, timeout) = this.keepalive;
                    let keepalive = connection.ping_pong().map(|pings| Keepalive::new(pings, interval, timeout));
                    this.state = State::Open { connection, keepalive };
                }
                State::Open { connection, keepalive } => {
                    if let Some(keepalive) = keepalive
                        && keepalive.poll(context, &this.is_active).is_ready()
                    {
                        return Poll::Ready(Err(ConnectionError::Unanswered));
                    }
                    let Some(request) = ready!(connection.poll_accept(context)) else { return Poll::Ready(Ok(())) };
                    let (request, respond) = request?;
                    this.is_active.store(true, Ordering::Relaxed);
                    let is_active = Arc::clone(&this.is_active);
                    (this.answer)(request.map(|stream| RequestStream::new(stream, is_active)), respond);
                }
            }
        }
    }
}
