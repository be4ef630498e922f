//! Asking a worker for the stacks of its threads: a signal, and a pipe that it writes them to.
//!
//! The signal's handler runs whatever the worker is doing, in C code and with Python's interpreter lock held by somebody
//! else; only a worker that is stopped does not answer. One dump at a time, with a deadline, and of bounded length. Who
//! wants it, and what becomes of it, is the session's business.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::Signal;
use tokio::net::unix::pipe;
use tokio::time::Instant;

use crate::supervisor::process_group::open_member;

/// How long a dump may take in all: nobody is killed later than that for it.
const TIMEOUT: Duration = Duration::from_millis(100);
/// A worker that has written nothing for this long has ended its dump, if it has not said what a dump ends with.
const QUIET_TIME: Duration = Duration::from_millis(20);
/// The most bytes of a dump. Also the size of a pipe, so that reading this much once empties it.
const MAX_BYTES: usize = 64 << 10;
const MAX_END_BYTES: usize = 1024;

/// The reading end of a worker's pipe for dumps.
#[derive(Debug)]
pub(super) struct Dumper {
    pipe: pipe::Receiver,
    /// `None`: the worker does not dump.
    target: Option<Target>,
    current: Option<Dump>,
}

/// How a worker is asked.
#[derive(Debug)]
struct Target {
    /// The process that writes the dump.
    process: OwnedFd,
    signal: Signal,
    /// What a dump ends with; may be empty.
    end: String,
}

/// A dump that is under way.
#[derive(Debug)]
struct Dump {
    bytes: Vec<u8>,
    deadline: Instant,
    /// When it is over if nothing more comes.
    quiet_at: Option<Instant>,
}

impl Dumper {
    pub(super) fn new(pipe: pipe::Receiver) -> Self {
        Self { pipe, target: None, current: None }
    }

    /// Notes what the worker says of itself. `group` is its process group; a process elsewhere gets no signal from us.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as a fragment of a sentence about the worker.
    pub(super) fn announce(&mut self, group: u32, pid: u32, signal: u32, end: String) -> Result<(), String> {
        if signal == 0 {
            return Ok(());
        }
        let named = i32::try_from(signal).ok().and_then(Signal::from_named_raw);
        let Some(signal) = named.filter(|signal| !matches!(*signal, Signal::KILL | Signal::STOP)) else {
            return Err(format!("announced the dump signal {signal}, which is none for that"));
        };
        if end.len() > MAX_END_BYTES {
            return Err(format!("announced an end of dumps of {} bytes", end.len()));
        }
        // Its own number, if it lives in a namespace of its own, is somebody else's here: then there are no dumps.
        self.target = open_member(group, pid).map(|process| Target { process, signal, end });
        Ok(())
    }

    /// Returns whether a dump is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.current.is_some()
    }

    /// Begins a dump. `false` if the worker does not dump.
    pub(super) fn begin(&mut self) -> bool {
        let Some(target) = &self.target else { return false };
        self.discard();
        if rustix::process::pidfd_send_signal(&target.process, target.signal).is_err() {
            return false;
        }
        self.current = Some(Dump { bytes: Vec::new(), deadline: Instant::now() + TIMEOUT, quiet_at: None });
        true
    }

    /// Drops what is left of an earlier dump that was cut short.
    fn discard(&self) {
        let mut bytes = vec![0; MAX_BYTES];
        // Whatever it says, there is nothing to do about it.
        let _ = rustix::io::read(&self.pipe, &mut bytes);
    }

    /// Waits until the worker may have written more of a dump; forever if none is under way.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub(super) async fn readable(&self) {
        if self.current.is_none() || self.pipe.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns when the dump that is under way is over, though nothing more comes.
    pub(super) fn over_at(&self) -> Option<Instant> {
        self.current.as_ref().map(Dump::over_at)
    }

    /// Reads what has come, without waiting. Returns the dump when it is over, most important stack first; empty if the
    /// worker did not answer.
    pub(super) fn advance(&mut self) -> Option<String> {
        let (dump, target) = (self.current.as_mut()?, self.target.as_ref()?);
        let before = dump.bytes.len();
        let mut is_closed = false;
        while dump.bytes.len() < MAX_BYTES && !is_closed {
            match self.pipe.try_read_buf(&mut dump.bytes) {
                Ok(length) => is_closed = length == 0,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let now = Instant::now();
        if dump.bytes.len() > before {
            dump.quiet_at = Some(now + QUIET_TIME);
        }
        let has_end = !target.end.is_empty() && dump.bytes.ends_with(target.end.as_bytes());
        if !has_end && !is_closed && dump.bytes.len() < MAX_BYTES && now < dump.over_at() {
            return None;
        }
        let mut dump = self.current.take()?;
        dump.bytes.truncate(MAX_BYTES);
        Some(most_important_first(&String::from_utf8_lossy(&dump.bytes)))
    }
}

impl Dump {
    fn over_at(&self) -> Instant {
        self.quiet_at.map_or(self.deadline, |quiet_at| quiet_at.min(self.deadline))
    }
}

/// Turns a dump around by threads, which empty lines part: the one that runs the items comes last, and is what most
/// people look for.
fn most_important_first(dump: &str) -> String {
    let threads: Vec<&str> = dump.rsplit("\n\n").map(str::trim_end).filter(|thread| !thread.is_empty()).collect();
    threads.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_thread_comes_first() {
        assert_eq!(most_important_first("a\n  b\n\nc\n  d\n"), "c\n  d\n\na\n  b");
        assert_eq!(most_important_first("only\n"), "only");
        assert_eq!(most_important_first(""), "");
    }
}
