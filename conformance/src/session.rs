//! One connection to one worker, which is played by hand: frames out, and every frame in is checked.

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

use crate::ledger::{Chunk, Ledger, Stage};
use crate::process::{Launcher, WorkerProcess, describe, wait_for_orphans};
use crate::report::{Fault, Outcome, Verdict};
use crate::rules;

/// What the protocol gives a worker to exit by itself, and as much again: the machine may be busy.
const EXIT_LIMIT: Duration = Duration::from_secs(2);
/// How much longer than for anything else a worker's start may take.
const START_FACTOR: u32 = 10;

/// What a connection begins with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) max_frame_bytes: u32,
    pub(crate) journal_bytes: u32,
    pub(crate) timeout: Duration,
}

/// A worker and what was said to and by it.
#[derive(Debug)]
pub(crate) struct Session {
    process: WorkerProcess,
    /// `None` once it was closed, by either side.
    peer: Option<Peer<ServerFrame>>,
    pub(crate) page: Option<PageReader>,
    pub(crate) ledger: Ledger,
    timeout: Duration,
    next_nonce: u64,
}

impl Session {
    /// Starts a worker and waits until it is ready.
    ///
    /// # Errors
    ///
    /// What it did wrong.
    pub(crate) fn start(launcher: &mut Launcher, terms: Terms) -> Result<Self, Fault> {
        let mut session = Self::launch(launcher, terms)
            .map_err(|error| Fault::new(rules::ALIVE, format!("could not be started: {error}")))?;
        session.timeout = terms.timeout * START_FACTOR;
        session.wait_until(|ledger| ledger.stage == Stage::Ready)?;
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
            ledger: Ledger::new(page.is_some()),
            page,
            timeout,
            next_nonce: 1,
        })
    }

    pub(crate) fn hello(&self) -> &Hello {
        &self.ledger.hello
    }

    /// Sends a frame, as far as the worker reads; the rest goes out while we wait.
    pub(crate) fn send(&mut self, frame: ServerFrame) {
        self.send_raw(frame.encode());
    }

    /// Sends bytes, a frame or not.
    pub(crate) fn send_raw(&mut self, bytes: Bytes) {
        if let Some(peer) = &mut self.peer {
            peer.queue(bytes);
        }
    }

    /// Sends a chunk, which gets its name and numbers here. Returns the name.
    pub(crate) fn run(&mut self, mut run: Run) -> u64 {
        run.attempt = 1;
        self.ledger.add(&mut run);
        let chunk = run.chunk;
        self.send(ServerFrame::Run(run));
        chunk
    }

    pub(crate) fn recall(&mut self, chunk: u64, cancel: bool) {
        self.ledger.note_recall(chunk);
        self.send(ServerFrame::Recall(Recall { chunk, cancel, cancel_offset: None }));
    }

    /// Recalls a chunk, and says that the time of one of its items is up.
    pub(crate) fn cancel_item(&mut self, chunk: u64, offset: u32) {
        self.ledger.note_recall(chunk);
        self.send(ServerFrame::Recall(Recall { chunk, cancel: true, cancel_offset: Some(offset) }));
    }

    pub(crate) fn shut_down(&mut self) {
        self.send(ServerFrame::Shutdown(Shutdown {}));
    }

    /// Sends a chunk and waits for all that comes of it.
    ///
    /// # Errors
    ///
    /// What the worker did wrong.
    pub(crate) fn call(&mut self, run: Run) -> Result<&Chunk, Fault> {
        let chunk = self.run(run);
        self.collect(chunk)
    }

    /// Waits for the rest of a chunk.
    ///
    /// # Errors
    ///
    /// What the worker did wrong.
    pub(crate) fn collect(&mut self, chunk: u64) -> Result<&Chunk, Fault> {
        self.wait_until(|ledger| ledger.chunk(chunk).is_done())?;
        Ok(self.ledger.chunk(chunk))
    }

    /// Asks for a Pong and waits for it: what the worker still had to say has been said then.
    ///
    /// # Errors
    ///
    /// What the worker did wrong.
    pub(crate) fn quiet(&mut self) -> Result<(), Fault> {
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        self.ledger.note_ping(nonce);
        self.send(ServerFrame::Ping(Ping { nonce }));
        self.wait_until(|ledger| ledger.is_answered(nonce))
    }

    /// Ends a check that has found nothing, but for what the worker may still have to say.
    ///
    /// # Errors
    ///
    /// What the worker did wrong.
    pub(crate) fn done(mut self) -> Outcome {
        self.quiet()?;
        Ok(Verdict::Ok)
    }

    /// Waits until the worker has said something; that it goes on saying things counts as progress.
    ///
    /// # Errors
    ///
    /// What the worker did wrong: a frame that it must not send, its end, or silence.
    pub(crate) fn wait_until(&mut self, mut is_so: impl FnMut(&Ledger) -> bool) -> Result<(), Fault> {
        let mut deadline = Instant::now() + self.timeout;
        while !is_so(&self.ledger) {
            if self.turn(deadline)? {
                deadline = Instant::now() + self.timeout;
            } else if self.peer.is_none() {
                return Err(self.ended());
            } else if Instant::now() >= deadline {
                let has_queued = self.peer.as_ref().is_some_and(Peer::has_queued);
                let what = if has_queued { "read nothing" } else { "sent nothing" };
                let got = format!("{what} for {:?}, and has {} to send", self.timeout, self.ledger.expectation());
                return Err(Fault::new(rules::ALIVE, got));
            }
        }
        Ok(())
    }

    /// As [`Session::wait_until`], but it may also not come true until then, or the socket may end.
    ///
    /// # Errors
    ///
    /// What the worker did wrong: a frame that it must not send.
    pub(crate) fn wait_until_or(
        &mut self,
        limit: Instant,
        mut is_so: impl FnMut(&Ledger) -> bool,
    ) -> Result<(), Fault> {
        while !is_so(&self.ledger) && self.peer.is_some() && Instant::now() < limit {
            self.turn(limit)?;
        }
        Ok(())
    }

    /// Goes on for so long, if nothing is wrong.
    ///
    /// # Errors
    ///
    /// What the worker did wrong.
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

    /// Kills the worker and takes what it had sent.
    ///
    /// # Errors
    ///
    /// What was wrong with that.
    pub(crate) fn kill(&mut self) -> Result<(), Fault> {
        self.process.kill().map_err(|error| broken(&error))?;
        while self.peer.is_some() {
            self.read()?;
        }
        Ok(())
    }

    /// Returns how many items of a chunk have begun; for a worker that is dead.
    ///
    /// # Errors
    ///
    /// If the page cannot be read.
    pub(crate) fn num_begun(&self, chunk: u64) -> Result<u32, Fault> {
        let page = self.page.as_ref().filter(|_| self.hello().uses_progress_page);
        let last_begun = page.map(PageReader::begun).transpose().map_err(|error| broken(&error))?;
        Ok(self.ledger.chunk(chunk).num_begun(last_begun))
    }

    /// Asks the worker to end, by the signal that the server sends.
    pub(crate) fn terminate(&self) {
        self.process.terminate();
    }

    /// Waits until the worker has exited, and takes what it says until then.
    ///
    /// # Errors
    ///
    /// What it did wrong; `rule` if it does not exit.
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

    /// Writes, reads and waits once. Returns whether a frame came or bytes went.
    fn turn(&mut self, deadline: Instant) -> Result<bool, Fault> {
        // That the worker is gone, reading will tell.
        let has_written = self.peer.as_mut().is_some_and(|peer| peer.flush().unwrap_or(false));
        if self.read()? || has_written {
            return Ok(true);
        }
        let Some(peer) = &self.peer else { return Ok(false) };
        let flags = if peer.has_queued() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        self.process.wait(Some((peer.socket(), flags)), deadline).map_err(|error| broken(&error))?;
        if self.process.status().is_some() {
            // Nothing new will come, even if something that it left holds the socket open.
            while self.peer.is_some() {
                self.read()?;
            }
        }
        Ok(false)
    }

    /// Reads what is there; checks it frame by frame. Returns whether a frame came.
    fn read(&mut self) -> Result<bool, Fault> {
        let Some(peer) = &mut self.peer else { return Ok(false) };
        let is_open = match peer.receive() {
            Ok(count) => count > 0,
            // A dead worker's socket has an end, unless somebody else holds it.
            Err(error) => error.kind() == io::ErrorKind::WouldBlock && self.process.status().is_none(),
        };
        let mut has_come = false;
        while let Some(frame) = peer.received().map_err(no_frame)? {
            has_come = true;
            if let Some(page) = &self.page {
                let begun = page.begun().map_err(|error| broken(&error))?;
                self.ledger.take_begun(begun)?;
            }
            self.ledger.take(frame)?;
        }
        if !is_open && peer.has_partial_frame() {
            return Err(Fault::new(rules::FRAME, "ended the socket within a frame"));
        }
        if !is_open {
            self.peer = None;
        }
        Ok(has_come)
    }

    /// Describes the end of a worker that should not have ended.
    fn ended(&mut self) -> Fault {
        let waiting = self.ledger.expectation();
        let status = match self.process.wait_for_exit(EXIT_LIMIT) {
            Ok(status) => status,
            Err(error) => return broken(&error),
        };
        let mut got = match status {
            Some(status) => format!("{}, and had {waiting} to send", describe(status)),
            None => format!("closed its socket and lives on, and had {waiting} to send"),
        };
        if let Some(last_words) = self.process.last_words() {
            got.push_str("; the last line of its stderr: ");
            got.push_str(&last_words);
        }
        Fault::new(rules::ALIVE, got)
    }
}

/// Checks that nothing is left of what a worker, which has exited, had started.
///
/// # Errors
///
/// With what is left.
pub(crate) fn expect_no_orphans() -> Result<(), Fault> {
    let left = wait_for_orphans(Instant::now() + EXIT_LIMIT).map_err(|error| broken(&error))?;
    match left.as_slice() {
        [] => Ok(()),
        [only] => Err(Fault::new(rules::ORPHANS, format!("left a process behind: {only}"))),
        several => Err(Fault::new(rules::ORPHANS, format!("left processes behind: {}", several.join(", ")))),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it maps an error")]
fn no_frame(error: FrameError) -> Fault {
    let rule = if matches!(error, FrameError::TooLong { .. }) { rules::MAX_FRAME } else { rules::FRAME };
    Fault::new(rule, format!("sent what is no frame: {error}"))
}

/// Something failed that is no doing of the worker's.
fn broken(error: &io::Error) -> Fault {
    Fault::new("this is no fault of the worker's", format!("could not be checked: {error}"))
}
