//! Writes what workers print to this process's own stdout and stderr, unchanged and in whole lines.
//!
//! A thread does so, since whoever reads may stop reading: then workers wait when they print, as they would if they wrote
//! there themselves, and nothing else in this process waits. Memory is bounded by what waits for the thread, and by one
//! line without an end for each stream.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::supervisor::thread::{Room, WorkThread};

/// The longest line that is kept whole, in bytes.
const MAX_LINE_BYTES: usize = 64 << 10;
/// How long the last of it may wait for a reader when the server ends.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const THREAD_NAME: &str = "procpool-print";

/// Prints for all workers of a process.
#[derive(Debug, Clone)]
pub(in crate::supervisor) struct Printer {
    thread: WorkThread,
    stdout: Arc<OwnedFd>,
    stderr: Arc<OwnedFd>,
}

/// What is printed at a time.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

impl Printer {
    /// Starts the thread. It prints to this process's own streams.
    ///
    /// # Errors
    ///
    /// If the system has no thread or no descriptor for it.
    pub(in crate::supervisor) fn start() -> io::Result<(Self, JoinHandle<()>)> {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        Self::start_on(stdout.as_fd().try_clone_to_owned()?, stderr.as_fd().try_clone_to_owned()?)
    }

    fn start_on(stdout: OwnedFd, stderr: OwnedFd) -> io::Result<(Self, JoinHandle<()>)> {
        let (thread, handle) = WorkThread::start(THREAD_NAME)?;
        Ok((Self { thread, stdout: Arc::new(stdout), stderr: Arc::new(stderr) }, handle))
    }

    /// Waits until something may be printed.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub(super) async fn has_room(&self) {
        self.thread.has_room().await;
    }

    /// Reserves what one batch needs; `None` if too much waits already.
    pub(super) fn room(&self) -> Option<Room<'_>> {
        self.thread.room()
    }

    /// Prints a batch some time, after what waits already.
    pub(super) fn print_in(&self, room: Room<'_>, batch: Batch) {
        room.fill(self.work(batch));
    }

    /// Prints a batch after what waits already, and waits until that is done.
    pub(super) async fn print(&self, batch: Batch) {
        // Without an answer there is nobody who could print.
        let _ = self.thread.run(self.work(batch)).await;
    }

    /// Ends the thread when all is printed. Returns whether it was within a second: if nobody reads, it may never be.
    pub(in crate::supervisor) async fn close(&self) -> bool {
        let close = async {
            self.thread.run(|| ()).await;
            self.thread.stop().await;
        };
        tokio::time::timeout(CLOSE_TIMEOUT, close).await.is_ok()
    }

    fn work(&self, batch: Batch) -> impl FnOnce() + Send + 'static {
        let (stdout, stderr) = (Arc::clone(&self.stdout), Arc::clone(&self.stderr));
        move || {
            write_all(&stdout, &batch.stdout);
            write_all(&stderr, &batch.stderr);
        }
    }
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.stdout.is_empty() && self.stderr.is_empty()
    }
}

/// Writes all of it, unless whoever could read is gone.
fn write_all(target: &OwnedFd, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(target, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            // Another process that has it too has made it non-blocking.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(target, PollFlags::OUT)], None);
            }
            Err(_) => return,
        }
    }
}

/// Passes a stream on in whole lines, so that the lines of several workers do not mix.
#[derive(Debug, Default)]
pub(super) struct WholeLines {
    partial: Vec<u8>,
}

impl WholeLines {
    /// Takes the next bytes of the stream, and adds all that ends with a line to `batch`. A carriage return ends a line,
    /// too: progress bars have no other end. A line that is too long goes on in pieces.
    pub(super) fn feed(&mut self, bytes: &[u8], batch: &mut Vec<u8>) {
        let end = bytes.iter().rposition(|byte| matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
        if end > 0 {
            batch.append(&mut self.partial);
            batch.extend_from_slice(&bytes[..end]);
        }
        self.partial.extend_from_slice(&bytes[end..]);
        if self.partial.len() > MAX_LINE_BYTES {
            batch.append(&mut self.partial);
        }
    }

    /// Adds the line that has no end.
    pub(super) fn finish(&mut self, batch: &mut Vec<u8>) {
        batch.append(&mut self.partial);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use rustix::fs::{OFlags, fcntl_setfl};

    use super::*;

    #[test]
    fn lines_stay_whole_and_unchanged() {
        let mut lines = WholeLines::default();
        let mut fed = |bytes: &[u8]| {
            let mut batch = Vec::new();
            lines.feed(bytes, &mut batch);
            batch
        };
        assert_eq!(fed(b"one\n\ntw"), b"one\n\n");
        assert_eq!(fed(b"o\x1b[31m"), b"");
        assert_eq!(fed(b"\xff\r\n 1%\r 2"), b"two\x1b[31m\xff\r\n 1%\r");
        assert_eq!(fed(b"%"), b"");
        let long = vec![b'x'; MAX_LINE_BYTES];
        assert_eq!(fed(&long).len(), 3 + MAX_LINE_BYTES, "memory is bounded");
        assert_eq!(fed(b"end"), b"");
        let mut rest = Vec::new();
        lines.finish(&mut rest);
        assert_eq!(rest, b"end");
    }

    #[tokio::test]
    async fn who_prints_waits_for_the_reader_and_nothing_is_lost() {
        let (mut reader, stdout) = io::pipe().unwrap();
        let stdout = OwnedFd::from(stdout);
        // As somebody may leave it who shares it.
        fcntl_setfl(&stdout, OFlags::NONBLOCK).unwrap();
        let (_, stderr) = io::pipe().unwrap();
        let (printer, thread) = Printer::start_on(stdout, stderr.into()).unwrap();
        let batch = || Batch { stdout: vec![b'x'; 100_000], stderr: b"nobody reads this\n".to_vec() };
        let mut num_bytes = 0;
        loop {
            while let Some(room) = printer.room() {
                printer.print_in(room, batch());
                num_bytes += 100_000;
                assert!(num_bytes < 100_000_000, "memory is bounded");
            }
            // The thread takes one more when it gets to run, and is stuck in that.
            if tokio::time::timeout(Duration::from_millis(20), printer.has_room()).await.is_err() {
                break;
            }
        }
        let reads = std::thread::spawn(move || {
            let mut text = Vec::new();
            reader.read_to_end(&mut text).unwrap();
            text.len()
        });
        printer.print(batch()).await;
        assert!(printer.close().await);
        drop(printer);
        thread.join().unwrap();
        assert_eq!(reads.join().unwrap(), num_bytes + 100_000);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_does_not_wait_for_ever_for_a_reader() {
        let (_reader, stdout) = io::pipe().unwrap();
        let (printer, _stuck) = Printer::start_on(stdout.into(), io::pipe().unwrap().1.into()).unwrap();
        let batch = Batch { stdout: vec![b'x'; 1 << 20], stderr: Vec::new() };
        printer.print_in(printer.room().unwrap(), batch);
        assert!(!printer.close().await);
    }
}
