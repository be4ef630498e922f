//! One connection to one worker, which is played by hand: frames out, and every frame in is checked.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use procpool_ipc::page::PageReader;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::{Hello, Ping, Recall, Run, Shutdown, Welcome};
use procpool_ipc::{
    FrameDecoder, FrameError, PROTOCOL_VERSION, decode_worker_frame, encode_server_frame, receive, send_with_fd,
};
use rustix::event::PollFlags;

use super::ledger::{Chunk, Ledger, Stage};
use super::process::{Launcher, WorkerProcess, describe, wait_for_orphans};
use super::report::Fault;
use super::rules;

/// What the protocol gives a worker to exit by itself, and as much again: the machine may be busy.
const EXIT_LIMIT: Duration = Duration::from_secs(2);
/// How much longer than for anything else a worker's start may take.
const START_FACTOR: u32 = 10;

/// What a connection begins with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) max_frame_bytes: u32,
    pub(super) journal_bytes: u32,
    pub(super) timeout: Duration,
}

/// A worker and what was said to and by it.
#[derive(Debug)]
pub(super) struct Session {
    process: WorkerProcess,
    /// `None` once it was closed, by either side.
    socket: Option<UnixStream>,
    decoder: FrameDecoder,
    outgoing: VecDeque<Bytes>,
    pub(super) page: Option<PageReader>,
    pub(super) ledger: Ledger,
    timeout: Duration,
    next_nonce: u64,
}

impl Session {
    /// Starts a worker and waits until it is ready.
    ///
    /// # Errors
    ///
    /// What it did wrong.
    pub(super) fn start(launcher: &mut Launcher, terms: Terms) -> Result<Self, Fault> {
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
        let welcome = encode_server_frame(ServerFrame::Welcome(welcome));
        let page = if journal_bytes == 0 {
            (&socket).write_all(&welcome)?;
            None
        } else {
            let (page, memory) = PageReader::create(journal_bytes)?;
            // The socket is empty and takes it whole.
            send_with_fd(&socket, &welcome, memory.as_fd())?;
            Some(page)
        };
        socket.set_nonblocking(true)?;
        Ok(Self {
            process: launcher.start(&channel)?,
            socket: Some(socket),
            decoder: FrameDecoder::new(max_frame_bytes),
            outgoing: VecDeque::new(),
            ledger: Ledger::new(page.is_some()),
            page,
            timeout,
            next_nonce: 1,
        })
    }

    pub(super) fn hello(&self) -> &Hello {
        &self.ledger.hello
    }

    /// Sends a frame, as far as the worker reads; the rest goes out while we wait.
    pub(super) fn send(&mut self, frame: ServerFrame) {
        self.send_raw(encode_server_frame(frame));
    }

    /// Sends bytes, a frame or not.
    pub(super) fn send_raw(&mut self, bytes: Bytes) {
        self.outgoing.push_back(bytes);
    }

    /// Sends a chunk, which gets its name and numbers here. Returns the name.
    pub(super) fn run(&mut self, mut run: Run) -> u64 {
        run.attempt = 1;
        self.ledger.add(&mut run);
        let chunk = run.chunk;
        self.send(ServerFrame::Run(run));
        chunk
    }

    pub(super) fn recall(&mut self, chunk: u64, cancel: bool) {
        self.ledger.note_recall(chunk);
        self.send(ServerFrame::Recall(Recall { chunk, cancel, cancel_offset: None }));
    }

    /// Recalls a chunk, and says that the time of one of its items is up.
    pub(super) fn cancel_item(&mut self, chunk: u64, offset: u32) {
        self.ledger.note_recall(chunk);
        self.send(ServerFrame::Recall(Recall { chunk, cancel: true, cancel_offset: Some(offset) }));
    }

    pub(super) fn shut_down(&mut self) {
        self.send(ServerFrame::Shutdown(Shutdown {}));
    }

    /// Sends a chunk and waits for all that comes of it.
    ///
    /// # Errors
    ///
    /// What the worker did wrong.
    pub(super) fn call(&mut self, run: Run) -> Result<&Chunk, Fault> {
        let chunk = self.run(run);
        self.collect(chunk)
    }

    /// Waits for the rest of a chunk.
    ///
    /// # Errors
    ///
    /// What the worker did wrong.
    pub(super) fn collect(&mut self, chunk: u64) -> Result<&Chunk, Fault> {
        self.wait_until(|ledger| ledger.chunk(chunk).is_done())?;
        Ok(self.ledger.chunk(chunk))
    }

    /// Asks for a Pong and waits for it: what the worker still had to say has been said then.
    ///
    /// # Errors
    ///
    /// What the worker did wrong.
    pub(super) fn quiet(&mut self) -> Result<(), Fault> {
        let nonce = self.ping();
        self.wait_until(|ledger| ledger.is_answered(nonce))
    }

    /// Sends a Ping. Returns its nonce.
    pub(super) fn ping(&mut self) -> u64 {
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        self.ledger.note_ping(nonce);
        self.send(ServerFrame::Ping(Ping { nonce }));
        nonce
    }

    /// Waits until the worker has said something; that it goes on saying things counts as progress.
    ///
    /// # Errors
    ///
    /// What the worker did wrong: a frame that it must not send, its end, or silence.
    pub(super) fn wait_until(&mut self, mut is_so: impl FnMut(&Ledger) -> bool) -> Result<(), Fault> {
        let mut deadline = Instant::now() + self.timeout;
        while !is_so(&self.ledger) {
            if self.turn(deadline)? {
                deadline = Instant::now() + self.timeout;
            } else if self.socket.is_none() {
                return Err(self.ended());
            } else if Instant::now() >= deadline {
                let what = if self.outgoing.is_empty() { "sent nothing" } else { "read nothing" };
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
    pub(super) fn wait_until_or(
        &mut self,
        limit: Instant,
        mut is_so: impl FnMut(&Ledger) -> bool,
    ) -> Result<(), Fault> {
        while !is_so(&self.ledger) && self.socket.is_some() && Instant::now() < limit {
            self.turn(limit)?;
        }
        Ok(())
    }

    /// Goes on for so long, if nothing is wrong.
    ///
    /// # Errors
    ///
    /// What the worker did wrong.
    pub(super) fn listen_for(&mut self, duration: Duration) -> Result<(), Fault> {
        let deadline = Instant::now() + duration;
        while self.socket.is_some() && Instant::now() < deadline {
            self.turn(deadline)?;
        }
        Ok(())
    }

    /// Closes our end.
    pub(super) fn close(&mut self) {
        self.socket = None;
    }

    /// Kills the worker and takes what it had sent.
    ///
    /// # Errors
    ///
    /// What was wrong with that.
    pub(super) fn kill(&mut self) -> Result<(), Fault> {
        self.process.kill().map_err(|error| broken(&error))?;
        while self.socket.is_some() {
            self.read()?;
        }
        Ok(())
    }

    /// Returns how many items of a chunk have begun; for a worker that is dead.
    ///
    /// # Errors
    ///
    /// If the page cannot be read.
    pub(super) fn num_begun(&self, chunk: u64) -> Result<u32, Fault> {
        let page = self.page.as_ref().filter(|_| self.hello().uses_progress_page);
        let last_begun = page.map(PageReader::begun).transpose().map_err(|error| broken(&error))?;
        Ok(self.ledger.chunk(chunk).num_begun(last_begun))
    }

    /// Asks the worker to end, by the signal that the server sends.
    pub(super) fn terminate(&self) {
        self.process.terminate();
    }

    /// Waits until the worker has exited, and takes what it says until then.
    ///
    /// # Errors
    ///
    /// What it did wrong; `rule` if it does not exit.
    pub(super) fn wait_for_exit(&mut self, rule: &'static str) -> Result<ExitStatus, Fault> {
        let deadline = Instant::now() + EXIT_LIMIT;
        while self.socket.is_some() && self.process.status().is_none() && Instant::now() < deadline {
            self.turn(deadline)?;
        }
        while self.socket.is_some() && self.process.status().is_some() {
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
        let has_written = self.write();
        if self.read()? || has_written {
            return Ok(true);
        }
        let Some(socket) = &self.socket else { return Ok(false) };
        let flags = if self.outgoing.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        self.process.wait(Some((socket, flags)), deadline).map_err(|error| broken(&error))?;
        if self.process.status().is_some() {
            // Nothing new will come, even if something that it left holds the socket open.
            while self.socket.is_some() {
                self.read()?;
            }
        }
        Ok(false)
    }

    fn write(&mut self) -> bool {
        let mut has_written = false;
        while let (Some(socket), Some(bytes)) = (&mut self.socket, self.outgoing.front_mut()) {
            match rustix::net::send(&*socket, bytes, rustix::net::SendFlags::NOSIGNAL) {
                Ok(count) => {
                    has_written = true;
                    bytes.advance(count);
                    if bytes.is_empty() {
                        self.outgoing.pop_front();
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                // Reading will tell.
                Err(_) => self.outgoing.clear(),
            }
        }
        has_written
    }

    /// Reads what is there; checks it frame by frame. Returns whether a frame came.
    fn read(&mut self) -> Result<bool, Fault> {
        let Some(socket) = &self.socket else { return Ok(false) };
        match receive(socket, &mut self.decoder) {
            Ok(0) => self.socket = None,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // A dead worker's socket has an end, unless somebody else holds it.
                if self.process.status().is_some() {
                    self.socket = None;
                }
            }
            Err(_) => self.socket = None,
        }
        let mut has_come = false;
        while let Some(frame) = self.next_frame()? {
            has_come = true;
            if let Some(page) = &self.page {
                let begun = page.begun().map_err(|error| broken(&error))?;
                self.ledger.take_begun(begun)?;
            }
            self.ledger.take(frame)?;
        }
        if self.socket.is_none() && self.decoder.has_partial_frame() {
            return Err(Fault::new(rules::FRAME, "ended the socket within a frame"));
        }
        Ok(has_come)
    }

    fn next_frame(&mut self) -> Result<Option<procpool_ipc::proto::worker_frame::Frame>, Fault> {
        let frame = self.decoder.next_frame().and_then(|frame| frame.map(decode_worker_frame).transpose());
        frame.map_err(|error| {
            let rule = if matches!(error, FrameError::TooLong { .. }) { rules::MAX_FRAME } else { rules::FRAME };
            Fault::new(rule, format!("sent what is no frame: {error}"))
        })
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
pub(super) fn expect_no_orphans() -> Result<(), Fault> {
    let left = wait_for_orphans(Instant::now() + EXIT_LIMIT).map_err(|error| broken(&error))?;
    match left.as_slice() {
        [] => Ok(()),
        [only] => Err(Fault::new(rules::ORPHANS, format!("left a process behind: {only}"))),
        several => Err(Fault::new(rules::ORPHANS, format!("left processes behind: {}", several.join(", ")))),
    }
}

/// Something failed that is no doing of the worker's.
fn broken(error: &io::Error) -> Fault {
    Fault::new("this is no fault of the worker's", format!("could not be checked: {error}"))
}
