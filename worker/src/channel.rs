//! The connection as the threads of a worker share it: which chunk runs, what of it has begun, what was recalled.
//!
//! One mutex holds all of it. The main thread takes it once between two items, the attendant and whoever reads a frame
//! take it for a moment. So what has begun is always known exactly, and frames leave in the order of what they tell.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use procpool_ipc::page::monotonic_ns;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_ipc::proto::{Pong, Recall, Recalled, Run, Started};
use procpool_ipc::{FrameDecoder, decode_server_frame, receive};
use procpool_items::ItemKind;
use rustix::event::EventfdFlags;

use crate::chunk::{kind_of, protocol_error};
use crate::common::RawCommon;
use crate::error::WorkerError;
use crate::failure::Failure;
use crate::results::{Finished, MAX_PENDING_NS, Sender};
use crate::worker::CancelHook;

/// The most chunks that may wait here. The server sends one or two ahead.
const MAX_QUEUED_CHUNKS: usize = 256;

/// The item that runs, or the last one that did, should end soon.
static CANCELLED: AtomicBool = AtomicBool::new(false);

/// Tells whether nobody waits for the result of the item that runs any more: its caller is gone, or its time is up. A
/// function that runs for long should look now and then and return early; its result no longer matters.
pub fn cancelled() -> bool {
    CANCELLED.load(Ordering::Relaxed)
}

/// What the threads share.
pub(crate) struct Channel {
    pub(crate) socket: Arc<OwnedFd>,
    /// Whoever holds it reads from the socket. To be taken before `state`, never after.
    pub(crate) reader: Mutex<FrameDecoder>,
    /// An eventfd that wakes the attendant.
    pub(crate) kick: OwnedFd,
    state: Mutex<State>,
}

struct State {
    sender: Sender,
    cancel_hook: Option<CancelHook>,
    queue: VecDeque<QueuedRun>,
    /// The common arguments that Run frames may name.
    commons: HashMap<u64, Arc<RawCommon>>,
    current: Option<Current>,
    /// The main thread is at work, not waiting for frames.
    is_running: bool,
    /// How often the main thread has gone to work.
    num_periods: u64,
    /// The attendant sleeps until it is kicked.
    attendant_sleeps: bool,
    phase: Phase,
    /// The connection is of no use any more; the main thread has yet to learn it.
    failure: Option<WorkerError>,
}

/// How far the worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It runs what comes.
    Serving,
    /// It finishes the item that runs and begins no other.
    Stopping,
    /// The main thread is done.
    Ended,
}

/// A Run frame, and the common argument that it names.
pub(crate) struct QueuedRun {
    pub(crate) run: Arc<Run>,
    /// It may be dropped before the chunk has run.
    pub(crate) common: Option<Arc<RawCommon>>,
}

/// The chunk that runs.
struct Current {
    chunk: u64,
    kind: ItemKind,
    first_sequence: u64,
    stamp_start: bool,
    /// How many of its items have begun.
    num_begun: u32,
    /// From here on none will begin.
    end: u32,
    was_recalled: bool,
    /// When the item that runs began, or the one before it finished.
    since_ns: u64,
}

/// What the main thread does next.
enum Next {
    Chunk(Box<QueuedRun>),
    Nothing,
    End,
}

/// What the attendant needs to know.
pub(crate) struct Outlook {
    pub(crate) phase: Phase,
    pub(crate) is_running: bool,
    pub(crate) num_periods: u64,
    /// When the oldest unsent result finished.
    pub(crate) pending_since_ns: Option<u64>,
}

/// What became of reading.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Some bytes came, and the frames in them were handled.
    Frames,
    /// The server has closed the connection.
    End,
}

impl Channel {
    pub(crate) fn new(
        sender: Sender,
        decoder: FrameDecoder,
        cancel_hook: Option<CancelHook>,
    ) -> Result<Self, WorkerError> {
        Ok(Self {
            socket: sender.socket(),
            reader: Mutex::new(decoder),
            kick: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            state: Mutex::new(State {
                sender,
                cancel_hook,
                queue: VecDeque::new(),
                commons: HashMap::new(),
                current: None,
                is_running: false,
                num_periods: 0,
                attendant_sleeps: false,
                phase: Phase::Serving,
                failure: None,
            }),
        })
    }

    /// Sends a frame that has no user data.
    pub(crate) fn send(&self, frame: WorkerFrame) -> Result<(), WorkerError> {
        Ok(self.lock().sender.send(frame)?)
    }

    /// The main thread goes to work.
    pub(crate) fn enter_work(&self) {
        let mut state = self.lock();
        state.enter_work();
        self.wake_attendant(&mut state);
    }

    /// The main thread has done its work.
    pub(crate) fn leave_work(&self) {
        self.lock().is_running = false;
    }

    /// The main thread is done, and so is the attendant.
    pub(crate) fn end(&self) {
        self.lock().phase = Phase::Ended;
        self.kick();
    }

    /// Returns the next chunk, waiting for it; `None` if the server wants no more.
    pub(crate) fn next_chunk(&self) -> Result<Option<QueuedRun>, WorkerError> {
        loop {
            match self.poll_chunk()? {
                Next::Chunk(queued) => return Ok(Some(*queued)),
                Next::End => return Ok(None),
                Next::Nothing => {}
            }
            if self.wait_for_frames()? == Received::End {
                return Ok(None);
            }
        }
    }

    fn poll_chunk(&self) -> Result<Next, WorkerError> {
        let mut state = self.lock();
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        if state.phase != Phase::Serving {
            return Ok(Next::End);
        }
        let Some(queued) = state.queue.pop_front() else {
            state.is_running = false;
            return Ok(Next::Nothing);
        };
        CANCELLED.store(false, Ordering::Relaxed);
        let run = &queued.run;
        state.current = Some(Current {
            chunk: run.chunk,
            kind: kind_of(run)?,
            first_sequence: run.first_sequence,
            stamp_start: run.stamp_start,
            num_begun: 0,
            end: run.count,
            was_recalled: false,
            since_ns: 0,
        });
        state.enter_work();
        self.wake_attendant(&mut state);
        Ok(Next::Chunk(Box::new(queued)))
    }

    /// Waits until frames have come; the attendant may be the one that reads them.
    fn wait_for_frames(&self) -> Result<Received, WorkerError> {
        let mut decoder = match self.reader.try_lock() {
            Ok(decoder) => decoder,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.kick();
                drop(self.reader.lock());
                // What the attendant has read meanwhile comes first.
                return Ok(Received::Frames);
            }
        };
        // Some may have come with the Welcome.
        self.handle_frames(&mut decoder)?;
        if self.has_news() { Ok(Received::Frames) } else { self.receive(&mut decoder) }
    }

    fn has_news(&self) -> bool {
        let state = self.lock();
        !state.queue.is_empty() || state.phase != Phase::Serving || state.failure.is_some()
    }

    /// Begins the first item of the chunk; `false` if none of it may begin.
    pub(crate) fn begin(&self) -> Result<bool, WorkerError> {
        self.lock().begin_next(monotonic_ns())
    }

    /// Takes the result of the item that ran and begins the next one; `false` if the chunk ends here.
    pub(crate) fn finish(&self, result: Result<&[u8], Failure>) -> Result<bool, WorkerError> {
        let mut now_ns = monotonic_ns();
        let mut state = self.lock();
        let had_pending = state.sender.pending_since_ns().is_some();
        let finished = state.current().finished(now_ns);
        match result {
            Ok(content) => state.sender.push_result(finished, content)?,
            Err(failure) => state.sender.push_failure(finished, failure)?,
        }
        match state.sender.pending_since_ns() {
            // Either the oldest result has waited, or this one took so long that the time of a flush is nothing.
            Some(since_ns) if now_ns - since_ns + finished.busy_ns >= MAX_PENDING_NS => state.sender.flush()?,
            Some(_) => {
                let is_begun = state.begin_next(now_ns)?;
                if is_begun && !had_pending {
                    // The next item may run for long, and then the attendant sends this result.
                    self.wake_attendant(&mut state);
                }
                return Ok(is_begun);
            }
            None => {}
        }
        // Sending took its time, which is not the next item's.
        now_ns = monotonic_ns();
        state.begin_next(now_ns)
    }

    /// Sends results that have waited long enough.
    pub(crate) fn flush_if_due(&self) -> Result<(), WorkerError> {
        let mut state = self.lock();
        if state.sender.pending_since_ns().is_some_and(|since| monotonic_ns().saturating_sub(since) >= MAX_PENDING_NS) {
            state.sender.flush()?;
        }
        Ok(())
    }

    /// Returns what the attendant needs to know; it is awake then.
    pub(crate) fn outlook(&self) -> Outlook {
        let mut state = self.lock();
        state.attendant_sleeps = false;
        Outlook {
            phase: state.phase,
            is_running: state.is_running,
            num_periods: state.num_periods,
            pending_since_ns: state.sender.pending_since_ns(),
        }
    }

    /// Says that the attendant will sleep until it is kicked. `false`, and it must not, if that is already due.
    pub(crate) fn let_attendant_sleep(&self, outlook: &Outlook) -> bool {
        let mut state = self.lock();
        let unchanged = state.is_running == outlook.is_running
            && state.num_periods == outlook.num_periods
            && state.sender.pending_since_ns().is_none();
        state.attendant_sleeps = unchanged;
        unchanged
    }

    /// Tells the main thread that the connection is of no use any more. Returns whether it is at work.
    pub(crate) fn fail(&self, failure: WorkerError) -> bool {
        let mut state = self.lock();
        state.failure.get_or_insert(failure);
        state.is_running
    }

    /// Receives once, waiting if nothing is there, and handles the frames that are whole then.
    pub(crate) fn receive(&self, decoder: &mut FrameDecoder) -> Result<Received, WorkerError> {
        let count = loop {
            match receive(&self.socket, decoder) {
                Ok(count) => break count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // A server that died with our frames unread.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break 0,
                Err(error) => return Err(error.into()),
            }
        };
        if count == 0 {
            return Ok(Received::End);
        }
        self.handle_frames(decoder)?;
        Ok(Received::Frames)
    }

    /// Handles the frames that are whole.
    pub(crate) fn handle_frames(&self, decoder: &mut FrameDecoder) -> Result<(), WorkerError> {
        while let Some(frame) = decoder.next_frame()? {
            let frame = decode_server_frame(frame)?;
            let dropped = self.lock().handle(frame)?;
            // Outside of the lock: it may be large, and the main thread waits for nobody.
            drop(dropped);
        }
        Ok(())
    }

    fn wake_attendant(&self, state: &mut State) {
        if state.attendant_sleeps {
            state.attendant_sleeps = false;
            self.kick();
        }
    }

    fn kick(&self) {
        // It can only fail when 2^64 kicks are waiting; then one more changes nothing.
        let _ = rustix::io::write(&self.kick, &1_u64.to_ne_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The user's code never runs under the lock, so a panic in here is a bug of ours; the state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter_work(&mut self) {
        self.is_running = true;
        self.num_periods += 1;
    }

    fn current(&mut self) -> &mut Current {
        self.current.as_mut().expect("a chunk runs while its items do")
    }

    /// Begins the next item of the chunk, or ends the chunk and sends what is left of its results.
    fn begin_next(&mut self, now_ns: u64) -> Result<bool, WorkerError> {
        let may_begin = self.phase == Phase::Serving && self.failure.is_none();
        let current = self.current.as_mut().expect("a chunk runs while its items do");
        if !may_begin || current.num_begun >= current.end {
            self.current = None;
            // Before the server knows: it may go away once it has the results, and that is no reason to exit in haste.
            self.is_running = false;
            self.sender.flush()?;
            return Ok(false);
        }
        let offset = current.num_begun;
        current.num_begun += 1;
        current.since_ns = now_ns;
        match self.sender.page() {
            Some(page) => {
                if current.stamp_start {
                    page.stamp_start(now_ns);
                }
                page.begin(current.first_sequence + u64::from(offset));
            }
            None => self.sender.send(WorkerFrame::Started(Started { chunk: current.chunk, offset }))?,
        }
        Ok(true)
    }

    /// Handles a frame. Returns the common argument that is not needed any more.
    fn handle(&mut self, frame: ServerFrame) -> Result<Option<Arc<RawCommon>>, WorkerError> {
        match frame {
            ServerFrame::Run(run) => {
                if self.queue.len() == MAX_QUEUED_CHUNKS {
                    return Err(WorkerError::Protocol(format!("it sent over {MAX_QUEUED_CHUNKS} chunks ahead")));
                }
                let common = match run.common {
                    0 => None,
                    name => {
                        let unknown =
                            || protocol_error(&run, &format!("names the common argument {name}, which is not here"));
                        Some(self.commons.get(&name).cloned().ok_or_else(unknown)?)
                    }
                };
                self.queue.push_back(QueuedRun { run: Arc::new(run), common });
            }
            ServerFrame::Recall(recall) => self.recall(&recall)?,
            ServerFrame::Ping(ping) => self.sender.send(WorkerFrame::Pong(Pong { nonce: ping.nonce }))?,
            ServerFrame::Shutdown(_) => self.phase = Phase::Stopping,
            ServerFrame::SetCommon(set) => {
                self.commons.insert(set.common, Arc::new(RawCommon::from_frame(set)?));
            }
            ServerFrame::DropCommon(dropped) => return Ok(self.commons.remove(&dropped.common)),
            ServerFrame::Welcome(_) => return Err(WorkerError::Protocol("it sent a second Welcome".to_owned())),
        }
        Ok(None)
    }

    fn recall(&mut self, recall: &Recall) -> Result<(), WorkerError> {
        let first_not_begun = match &mut self.current {
            Some(current) if current.chunk == recall.chunk => {
                // Whatever is told here is told of the last item of this chunk: no other begins.
                if recall.cancel && recall.cancel_offset.is_none_or(|offset| current.is_last_begun(offset)) {
                    CANCELLED.store(true, Ordering::Relaxed);
                    self.cancel_hook.iter().for_each(|hook| hook());
                }
                if current.was_recalled {
                    return Ok(());
                }
                current.was_recalled = true;
                current.end = current.num_begun;
                current.num_begun
            }
            _ => {
                let Some(position) = self.queue.iter().position(|queued| queued.run.chunk == recall.chunk) else {
                    // It is finished, or was recalled before.
                    return Ok(());
                };
                self.queue.remove(position);
                0
            }
        };
        Ok(self.sender.send(WorkerFrame::Recalled(Recalled { chunk: recall.chunk, first_not_begun }))?)
    }
}

impl Current {
    /// Tells whether no item has begun after the one at this offset, which has.
    fn is_last_begun(&self, offset: u32) -> bool {
        self.num_begun.checked_sub(1) == Some(offset)
    }

    /// Describes the item that has just finished.
    fn finished(&mut self, now_ns: u64) -> Finished {
        let offset = self.num_begun - 1;
        Finished {
            chunk: self.chunk,
            offset,
            sequence: self.first_sequence + u64::from(offset),
            kind: self.kind,
            now_ns,
            busy_ns: now_ns.saturating_sub(self.since_ns),
        }
    }
}
