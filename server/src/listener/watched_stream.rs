//! A connection below HTTP: counts bytes, edits authorities, and fails if the peer reads nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::authority::Editor;

/// The number of bytes received and sent.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    received: AtomicUsize,
    sent: AtomicUsize,
}

impl Traffic {
    pub(super) fn received(&self) -> usize {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}

/// A stream that counts its bytes, and fails when its peer reads nothing for too long.
///
/// HTTP/2's keepalive cannot detect that: h2 would send a GOAWAY first, and waits until it can be written, as long as the
/// peer lives and does not read.
pub(crate) struct WatchedStream<S> {
    stream: S,
    traffic: Arc<Traffic>,
    /// Edits what is received; only for Unix sockets.
    editor: Option<Editor>,
    write_timeout: Duration,
    /// Runs while a write is pending.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> WatchedStream<S> {
    pub(crate) fn new(stream: S, write_timeout: Duration) -> Self {
        Self { stream, traffic: Arc::default(), editor: None, write_timeout, stalled: None }
    }

    /// Sets the editor of what is received.
    pub(super) fn edited_by(self, editor: Option<Editor>) -> Self {
        Self { editor, ..self }
    }

    /// Returns the counters of the bytes.
    pub(super) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    /// Returns the result of an attempt to write, or an error if writes have been pending for too long.
    fn watch(&mut self, context: &mut Context<'_>, attempt: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = attempt {
            self.stalled = None;
            self.traffic.sent.fetch_add(*result.as_ref().unwrap_or(&0), Ordering::Relaxed);
            return Poll::Ready(result);
        }
        let write_timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(write_timeout)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer reads nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.traffic.received.fetch_add(buffer.filled().len() - before, Ordering::Relaxed);
        if let Some(editor) = &mut self.editor {
            editor.edit(&mut buffer.filled_mut()[before..]);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.stream).poll_write(context, buffer);
        self.watch(context, attempt)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.watch(context, attempt)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(50);
    const ALMOST: Duration = Duration::from_secs(49);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut stream = WatchedStream::new(ours, TIMEOUT);
        let read_slowly = async {
            let mut received = [0; 8];
            for part in received.chunks_mut(2) {
                tokio::time::sleep(ALMOST).await;
                theirs.read_exact(part).await.unwrap();
            }
            received
        };
        let (written, received) = tokio::join!(stream.write_all(b"all of it"), read_slowly);
        written.unwrap();
        assert_eq!(&received, b"all of i");
        // There is room again, and the time that it was short of it is forgotten.
        stream.write_all(b"now").await.unwrap();
        let error = stream.write_all(b"and never again").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(theirs);
    }
}
