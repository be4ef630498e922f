//! One stream of HTTP/2: its request as a source of bytes, and its response on the way out.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use http_body::Body as _;
use tonic::body::Body;
use tonic::codegen::StdError;
use tower::ServiceExt as _;

use super::response_body::monitored;
use super::service::HttpService;

/// Where the bytes of a request come from.
pub(crate) trait Source: Send + 'static {
    /// Returns the next bytes of the request.
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, StdError>>>;

    /// Lets the sender send this much more: the length of data that [`Source::poll_data`] returned.
    fn open_window(&mut self, bytes: usize);
}

/// The bytes of a request.
#[derive(Debug)]
pub(crate) struct RequestStream {
    stream: RecvStream,
    /// Shared with its connection; set when data arrives.
    is_active: Arc<AtomicBool>,
}

impl RequestStream {
    pub(super) fn new(stream: RecvStream, is_active: Arc<AtomicBool>) -> Self {
        Self { stream, is_active }
    }
}

impl Source for RequestStream {
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, StdError>>> {
        let data = ready!(self.stream.poll_data(context));
        self.is_active.store(true, Ordering::Relaxed);
        Poll::Ready(data.map(|data| data.map_err(StdError::from)))
    }

    fn open_window(&mut self, bytes: usize) {
        if let Err(error) = self.stream.flow_control().release_capacity(bytes) {
            tracing::error!(%error, bytes, "a window cannot be opened");
        }
    }
}

/// Answers a request, unless its client resets the stream. If this is dropped before the end, the stream is reset.
pub(super) async fn answer<S: HttpService<RequestStream>>(
    service: S,
    request: Request<RequestStream>,
    mut respond: SendResponse<Bytes>,
) {
    let response = tokio::select! {
        biased;
        response = service.oneshot(request) => match response {
            Ok(response) => monitored(response),
            Err(never) => match never {},
        },
        reset = poll_fn(|context| respond.poll_reset(context)) => {
            tracing::debug!(?reset, "a call was taken back");
            return;
        }
    };
    let (head, body) = response.into_parts();
    let is_all = body.is_end_stream();
    let sent = match respond.send_response(Response::from_parts(head, ()), is_all) {
        Ok(_) if is_all => Ok(()),
        Ok(stream) => send_body(body, stream).await,
        Err(error) => Err(error),
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "a call could not be answered");
    }
}

/// Sends a body to its end. Polls it for the next piece when at least one byte of the last one may be sent.
async fn send_body(mut body: Body, mut stream: SendStream<Bytes>) -> Result<(), h2::Error> {
    loop {
        let frame = poll_fn(|context| match stream.poll_reset(context) {
            Poll::Ready(reset) => Poll::Ready(Err(reset.map_or_else(|error| error, h2::Error::from))),
            Poll::Pending => Pin::new(&mut body).poll_frame(context).map(Ok),
        });
        let frame = match frame.await? {
            None => return stream.send_data(Bytes::new(), true),
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                tracing::error!(%error, "an answer failed without saying so");
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
        };
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                // Only now, so that no stream reserves a share of the connection's window that it cannot use yet.
                stream.reserve_capacity(1);
                wait_for_room(&mut stream).await?;
                let is_last = body.is_end_stream();
                stream.send_data(data, is_last)?;
                if is_last {
                    return Ok(());
                }
            }
            Err(frame) => {
                stream.reserve_capacity(0);
                return frame.into_trailers().map_or(Ok(()), |trailers| stream.send_trailers(trailers));
            }
        }
    }
}

/// Waits until the window of the stream allows at least one byte.
async fn wait_for_room(stream: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    poll_fn(|context| {
        while stream.capacity() == 0 {
            // The reader may reset the stream while its window is full.
            if let Poll::Ready(reset) = stream.poll_reset(context) {
                return Poll::Ready(Err(reset.map_or_else(|error| error, h2::Error::from)));
            }
            match ready!(stream.poll_capacity(context)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error)),
                // The stream has ended otherwise.
                None => return Poll::Ready(Err(Reason::CANCEL.into())),
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}
