//! Response bodies, in pieces, and monitored: a stalled reader is noticed, and values that the response holds are
//! dropped with it.
//!
//! The transport polls for a piece when at least one byte of the one before may be sent. So a body that
//! is not asked for more waits for its reader, and [`StreamMonitor`] says since when; a large message is cut into
//! pieces so that a reader who is slow can be told from one who takes nothing. Nothing within the body could act on
//! that: it is not polled then. The task of the stream does, and drops everything.
//!
//! After the last piece the transport needs the body no more, though it may still hold that piece. It is short, so that
//! what a reader leaves lying then is next to nothing.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Extensions, Response};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use super::monitor::{STREAM, StreamMonitor};

/// A reader that takes this much in `stream_stall_timeout` is not stalled.
const PIECE_BYTES: usize = 64 << 10;
/// The last piece of data longer than twice this. HTTP/2 libraries take many shorter frames for an attack.
const LAST_BYTES: usize = 256;

/// Values that are dropped when the response has ended; an extension of the response.
#[derive(Clone, Default)]
struct Held(Vec<Arc<dyn Any + Send + Sync>>);

/// Keeps a value until the response with these extensions has ended.
pub(crate) fn hold_until_end(extensions: &mut Extensions, value: impl Send + Sync + 'static) {
    extensions.get_or_insert_default::<Held>().0.push(Arc::new(value));
}

/// Reports to the task of the stream how the response is taken. A request of HTTP/1.1 has no task: there, the write
/// timeout of the connection applies.
pub(crate) fn monitored(mut response: Response<Body>) -> Response<Body> {
    let Ok(monitor) = STREAM.try_with(Arc::clone) else { return response };
    let held = response.extensions_mut().remove::<Held>();
    response.map(|inner| {
        // A refusal has no body, and must not look as if it had one.
        if http_body::Body::is_end_stream(&inner) {
            return inner;
        }
        monitor.set_waiting(Some(Instant::now()));
        Body::new(ResponseBody { inner, rest: Bytes::new(), monitor, _held: held })
    })
}

struct ResponseBody {
    inner: Body,
    /// The rest of the data that the service returned last.
    rest: Bytes,
    monitor: Arc<StreamMonitor>,
    _held: Option<Held>,
}

impl ResponseBody {
    /// Returns the next piece of `rest`.
    fn next_piece(&mut self) -> Bytes {
        match self.rest.len() {
            // A copy: a slice would keep the whole message in memory, in no budget.
            all if all <= 2 * LAST_BYTES => Bytes::copy_from_slice(&std::mem::take(&mut self.rest)),
            all => self.rest.split_to(PIECE_BYTES.min(all - LAST_BYTES)),
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.monitor.set_waiting(None);
        while self.rest.is_empty() {
            match ready!(http_body::Body::poll_frame(Pin::new(&mut self.inner), context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        self.monitor.set_waiting(Some(Instant::now()));
        Poll::Ready(Some(Ok(Frame::data(self.next_piece()))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Only asked for at the start, when nothing is left of a piece.
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    fn body_of(messages: Vec<Bytes>) -> (Body, Arc<StreamMonitor>) {
        let monitor = Arc::new(StreamMonitor::default());
        let frames = stream::iter(messages).map(|message| Ok::<_, Infallible>(Frame::data(message)));
        // It does not end by itself.
        let inner = Body::new(StreamBody::new(frames.chain(stream::pending())));
        let body = STREAM.sync_scope(Arc::clone(&monitor), || monitored(Response::new(inner)).into_body());
        (body, monitor)
    }

    #[tokio::test]
    async fn large_messages_go_in_pieces_of_which_the_last_is_short_and_nothing_is_lost() {
        for length in [1, 256, 512, 513, 1000, PIECE_BYTES, PIECE_BYTES + 300, 3 * PIECE_BYTES + 1] {
            let message: Vec<u8> = (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect();
            let (mut body, _) = body_of(vec![message.clone().into()]);
            let mut received = Vec::new();
            while received.len() < length {
                let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
                received.extend_from_slice(&piece);
                let is_last = received.len() == length;
                assert!(piece.len() <= if is_last { 2 * LAST_BYTES } else { PIECE_BYTES }, "{length}");
                assert!(piece.len() >= LAST_BYTES.min(length), "{length}");
                if is_last {
                    let kept = piece.try_into_mut().expect("it is no part of the message").capacity();
                    assert!(kept <= 2 * LAST_BYTES, "{length}: it keeps {kept} bytes");
                }
            }
            assert_eq!(received, message);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_its_reader_from_the_start_and_after_each_piece_but_not_for_the_service() {
        let (mut body, monitor) = body_of(vec![Bytes::from_static(b"a message")]);
        let began = Instant::now();
        assert_eq!(monitor.waiting_since(), Some(began));
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        body.frame().await.unwrap().unwrap();
        assert_eq!(monitor.waiting_since(), Some(began + std::time::Duration::from_secs(1)));
        let mut next = std::pin::pin!(body.frame());
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        assert_eq!(monitor.waiting_since(), None);
    }
}
