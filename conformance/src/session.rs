//! One connection to one worker: sends frames as the server, and checks every frame that arrives.

use std::io;
use std::os::unix::net::UnixStream;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use bytes::Bytes;
use procpool_ipc::page::PageReader;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::{Hello, Ping, Recall, Run, Shutdown, Welcome};
use procpool_ipc::{Frame as _, FrameError, PROTOCOL_VERSION, Peer};
use rustix::event::PollFlags;

use crate::process::{Launcher, WorkerProcess, describe, wait_for_orphans};
use crate::report::{Fault, Outcome, Verdict, bail};
use crate::rules;
use crate::transcript::{Chunk, Stage, Transcript};

/// Twice the time in which the protocol requires a worker to exit, since the machine may be busy.
const EXIT_LIMIT: Duration = Duration::from_secs(2);
/// The factor by which a worker's start may take longer than an answer.
const START_FACTOR: u32 = 10;

/// The terms of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) max_frame_bytes: u32,
    pub(crate) journal_bytes: u32,
    pub(crate) timeout: Duration,
}

/// A worker and the transcript of its connection.
#[derive(Debug)]
pub(crate) struct Session {
    process: WorkerProcess,
    /// `None` once either side has closed it.
    peer: Option<Peer<ServerFrame>>,
    pub(crate) page: Option<PageReader>,
    pub(crate) transcript: Transcript,
    timeout: Duration,
    next_nonce: u64,
}

impl Session {
    /// Starts a worker and waits until it is ready.
    ///
    /// # Errors
    ///
    /// If it violates the protocol.
    pub(crate) fn start(launcher: &mut Launcher, terms: Terms) -> Result<Self, Fault> {
        let mut session = Self::launch(launcher, terms)
            .map_err(|error| Fault::new(rules::ALIVE, format!("could not be started: {error}")))?;
        session.timeout = terms.timeout * START_FACTOR;
        session.wait_until(|transcript| transcript.stage == Stage::Ready)?;
        session.timeout = terms.timeout;
        Ok(session)
    }

    fn launch(launcher: &mut Launcher, terms: Terms) -> io::Result<Self> {
        let Terms { max_frame_bytes, journal_bytes, timeout } = terms;
        let (socket, channel) = UnixStream::pair()?;
        let welcome = Welcome {
            protocol_version: PROTOCOL_VERSION,
            worker_id: 1,
            slot: 0,
            max_frame_bytes,
            journal_bytes,
            dump_pipe: false,
        };
        let (peer, page) = Peer::welcome(socket, welcome)?;
        peer.socket().set_nonblocking(true)?;
        Ok(Self {
            process: launcher.start(&channel)?,
            peer: Some(peer),
            transcript: Transcript::new(page.is_some()),
            page,
            timeout,
            next_nonce: 1,
        })
    }

    pub(crate) fn hello(&self) -> &Hello {
        &self.transcript.hello
    }

    /// Queues a frame; it is written while the session waits.
    pub(crate) fn send(&mut self, frame: ServerFrame) {
        self.send_raw(frame.encode());
    }

    /// Queues raw bytes, which may be an invalid frame.
    pub(crate) fn send_raw(&mut self, bytes: Bytes) {
        if let Some(peer) = &mut self.peer {
            peer.queue(bytes);
        }
    }

    /// Assigns a chunk its id and sequence numbers, and sends it. Returns the id.
    pub(crate) fn run(&mut self, mut run: Run) -> u64 {
        run.attempt = 1;
        self.transcript.add(&mut run);
        let chunk = run.chunk;
        self.send(ServerFrame::Run(run));
        chunk
    }

    pub(crate) fn recall(&mut self, chunk: u64, cancel: bool) {
        self.transcript.note_recall(chunk);
        self.send(ServerFrame::Recall(Recall { chunk, cancel, cancel_offset: None }));
    }

    /// Recalls a chunk and cancels one of its items as timed out.
    pub(crate) fn cancel_item(&mut self, chunk: u64, offset: u32) {
        self.transcript.note_recall(chunk);
        self.send(ServerFrame::Recall(Recall { chunk, cancel: true, cancel_offset: Some(offset) }));
    }

    pub(crate) fn shut_down(&mut self) {
        self.send(ServerFrame::Shutdown(Shutdown {}));
    }

    /// Sends a chunk and waits for its results.
    ///
    /// # Errors
    ///
    /// If the worker violates the protocol.
    pub(crate) fn call(&mut self, run: Run) -> Result<&Chunk, Fault> {
        let chunk = self.run(run);
        self.collect(chunk)
    }

    /// Waits for the rest of a chunk.
    ///
    /// # Errors
    ///
    /// If the worker violates the protocol.
    pub(crate) fn collect(&mut self, chunk: u64) -> Result<&Chunk, Fault> {
        self.wait_until(|transcript| transcript.chunk(chunk).is_done())?;
        Ok(self.transcript.chunk(chunk))
    }

    /// Asks for a Pong and waits for it: what the worker still had to say has been said then.
    ///
    /// # Errors
    ///
    /// If the worker violates the protocol.
    pub(crate) fn quiet(&mut self) -> Result<(), Fault> {
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        self.transcript.note_ping(nonce);
        self.send(ServerFrame::Ping(Ping { nonce }));
        self.wait_until(|transcript| transcript.is_answered(nonce))
    }

    /// Ends a check that has found nothing, but for what the worker may still have to say.
    ///
    /// # Errors
    ///
    /// If the worker violates the protocol.
    pub(crate) fn done(mut self) -> Outcome {
        self.quiet()?;
        Ok(Verdict::Ok)
    }

    /// Waits until the transcript fulfils a condition. Every frame and every write restarts the timeout.
    ///
    /// # Errors
    ///
    /// If the worker sends an invalid frame, exits, or is silent for too long.
    pub(crate) fn wait_until(&mut self, mut is_so: impl FnMut(&Transcript) -> bool) -> Result<(), Fault> {
        let mut deadline = Instant::now() + self.timeout;
        while !is_so(&self.transcript) {
            if self.turn(deadline)? {
                deadline = Instant::now() + self.timeout;
            } else if self.peer.is_none() {
                return Err(self.ended());
            } else if Instant::now() >= deadline {
                let has_queued = self.peer.as_ref().is_some_and(Peer::has_queued);
                let what = if has_queued { "read nothing" } else { "sent nothing" };
                bail!(rules::ALIVE, "{what} for {:?}, and has {} to send", self.timeout, self.transcript.expectation());
            }
        }
        Ok(())
    }

    /// Like [`Session::wait_until`], but also returns at the limit or the end of the connection.
    ///
    /// # Errors
    ///
    /// If the worker sends an invalid frame.
    pub(crate) fn wait_until_or(
        &mut self,
        limit: Instant,
        mut is_so: impl FnMut(&Transcript) -> bool,
    ) -> Result<(), Fault> {
        while !is_so(&self.transcript) && self.peer.is_some() && Instant::now() < limit {
            self.turn(limit)?;
        }
        Ok(())
    }

    /// Reads and writes for a while.
    ///
    /// # Errors
    ///
    /// If the worker violates the protocol.
    pub(crate) fn listen_for(&mut self, duration: Duration) -> Result<(), Fault> {
        let deadline = Instant::now() + duration;
        while self.peer.is_some() && Instant::now() < deadline {
            self.turn(deadline)?;
        }
        Ok(())
    }

    /// Closes our end.
    pub(crate) fn close(&mut self) {
        self.peer = None;
    }

    /// Kills the worker and reads what it had sent.
    ///
    /// # Errors
    ///
    /// If it had sent an invalid frame.
    pub(crate) fn kill(&mut self) -> Result<(), Fault> {
        self.process.kill().map_err(|error| broken(&error))?;
        while self.peer.is_some() {
            self.read()?;
        }
        Ok(())
    }

    /// Returns how many items of a chunk had begun; for a dead worker.
    ///
    /// # Errors
    ///
    /// If the page cannot be read.
    pub(crate) fn num_begun(&self, chunk: u64) -> Result<u32, Fault> {
        let page = self.page.as_ref().filter(|_| self.hello().uses_progress_page);
        let last_begun = page.map(PageReader::begun).transpose().map_err(|error| broken(&error))?;
        Ok(self.transcript.chunk(chunk).num_begun(last_begun))
    }

    /// Sends SIGTERM, as the server does.
    pub(crate) fn terminate(&self) {
        self.process.terminate();
    }

    /// Waits until the worker has exited, and reads what it sends until then.
    ///
    /// # Errors
    ///
    /// If it violates the protocol; `rule` if it does not exit.
    pub(crate) fn wait_for_exit(&mut self, rule: &'static str) -> Result<ExitStatus, Fault> {
        let deadline = Instant::now() + EXIT_LIMIT;
        while self.peer.is_some() && self.process.status().is_none() && Instant::now() < deadline {
            self.turn(deadline)?;
        }
        while self.peer.is_some() && self.process.status().is_some() {
            self.read()?;
        }
        let rest = deadline.saturating_duration_since(Instant::now());
        match self.process.wait_for_exit(rest).map_err(|error| broken(&error))? {
            Some(status) => Ok(status),
            None => Err(Fault::new(rule, format!("still runs after {EXIT_LIMIT:?}"))),
        }
    }

    /// Writes, reads and waits once. Returns whether a frame arrived or bytes were written.
    fn turn(&mut self, deadline: Instant) -> Result<bool, Fault> {
        // A read will show that the worker is gone.
        let has_written = self.peer.as_mut().is_some_and(|peer| peer.flush().unwrap_or(false));
        if self.read()? || has_written {
            return Ok(true);
        }
        let Some(peer) = &self.peer else { return Ok(false) };
        let flags = if peer.has_queued() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        self.process.wait(Some((peer.socket(), flags)), deadline).map_err(|error| broken(&error))?;
        if self.process.status().is_some() {
            // No new data will arrive, even if an orphan holds the socket open.
            while self.peer.is_some() {
                self.read()?;
            }
        }
        Ok(false)
    }

    /// Reads and checks the available frames. Returns whether one arrived.
    fn read(&mut self) -> Result<bool, Fault> {
        let Some(peer) = &mut self.peer else { return Ok(false) };
        let is_open = match peer.receive() {
            Ok(count) => count > 0,
            // The socket of a dead worker ends, unless another process holds it.
            Err(error) => error.kind() == io::ErrorKind::WouldBlock && self.process.status().is_none(),
        };
        let mut has_come = false;
        while let Some(frame) = peer.received().map_err(invalid_frame)? {
            has_come = true;
            if let Some(page) = &self.page {
                let begun = page.begun().map_err(|error| broken(&error))?;
                self.transcript.take_begun(begun)?;
            }
            self.transcript.take(frame)?;
        }
        if !is_open && peer.has_partial_frame() {
            bail!(rules::FRAME, "ended the socket within a frame");
        }
        if !is_open {
            self.peer = None;
        }
        Ok(has_come)
    }

    /// Describes the unexpected exit of a worker.
    fn ended(&mut self) -> Fault {
        let waiting = self.transcript.expectation();
        let status = match self.process.wait_for_exit(EXIT_LIMIT) {
            Ok(status) => status,
            Err(error) => return broken(&error),
        };
        let mut got = match status {
            Some(status) => format!("{}, and had {waiting} to send", describe(status)),
            None => format!("closed its socket but still runs, and had {waiting} to send"),
        };
        if let Some(last_line) = self.process.last_line() {
            got.push_str("; the last line of its stderr: ");
            got.push_str(&last_line);
        }
        Fault::new(rules::ALIVE, got)
    }
}

/// Checks that no descendant of a worker that has exited is left.
///
/// # Errors
///
/// If one is left.
pub(crate) fn expect_no_orphans() -> Result<(), Fault> {
    let left = wait_for_orphans(Instant::now() + EXIT_LIMIT).map_err(|error| broken(&error))?;
    match left.as_slice() {
        [] => Ok(()),
        [only] => Err(Fault::new(rules::ORPHANS, format!("left a process behind: {only}"))),
        several => Err(Fault::new(rules::ORPHANS, format!("left processes behind: {}", several.join(", ")))),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it maps an error")]
fn invalid_frame(error: FrameError) -> Fault {
    let rule = if matches!(error, FrameError::TooLong { .. }) { rules::MAX_FRAME } else { rules::FRAME };
    Fault::new(rule, format!("sent an invalid frame: {error}"))
}

/// An error that the worker did not cause.
fn broken(error: &io::Error) -> Fault {
    Fault::new("this is not a fault of the worker", format!("could not be checked: {error}"))
}
