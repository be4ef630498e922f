//! The connection state that the threads of a worker share: which chunk runs, which items have begun, what was
//! recalled.
//!
//! One mutex protects all of it. The main thread locks it once between two items; the I/O thread and the reader of a
//! frame lock it briefly. So which items have begun is always known exactly, and frames are sent in the order of the
//! events.

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

/// The most queued chunks. The server sends one or two ahead.
const MAX_QUEUED_CHUNKS: usize = 256;

/// Whether the running item, or the last one that ran, is cancelled.
static CANCELLED: AtomicBool = AtomicBool::new(false);

/// Returns whether the running item is cancelled: its caller is gone, or it timed out. A long function should check
/// this now and then and return early; its result is dropped.
pub fn cancelled() -> bool {
    CANCELLED.load(Ordering::Relaxed)
}

/// Called when the running item is cancelled.
pub(crate) type CancelHook = Box<dyn Fn() + Send>;

/// The state that the threads share.
pub(crate) struct Channel {
    pub(crate) socket: Arc<OwnedFd>,
    /// Its owner reads from the socket. Lock it before `state`, never after.
    pub(crate) reader: Mutex<FrameDecoder>,
    /// An eventfd that wakes the I/O thread.
    pub(crate) wakeup: OwnedFd,
    state: Mutex<State>,
}

struct State {
    sender: Sender,
    cancel_hook: Option<CancelHook>,
    queue: VecDeque<QueuedRun>,
    /// The common arguments that Run frames may name.
    commons: HashMap<u64, Arc<RawCommon>>,
    current: Option<Current>,
    /// The main thread is busy, not waiting for frames.
    is_running: bool,
    /// How often the main thread has become busy.
    num_periods: u64,
    /// The I/O thread sleeps until it is woken.
    io_thread_sleeps: bool,
    phase: Phase,
    /// Why the connection failed, until the main thread takes it.
    failure: Option<WorkerError>,
}

/// The phase of the worker's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It runs chunks as they arrive.
    Serving,
    /// It finishes the running item and begins no other.
    Stopping,
    /// The main thread is done.
    Ended,
}

/// A Run frame, and the common argument that it names.
pub(crate) struct QueuedRun {
    pub(crate) run: Arc<Run>,
    /// Kept here, since `DropCommon` may arrive before the chunk has run.
    pub(crate) common: Option<Arc<RawCommon>>,
}

/// The running chunk.
struct Current {
    chunk: u64,
    kind: ItemKind,
    first_sequence: u64,
    stamp_start: bool,
    /// How many of its items have begun.
    num_begun: u32,
    /// The offset from which on no item will begin.
    end: u32,
    was_recalled: bool,
    /// When the running item began, or the one before it finished.
    since_ns: u64,
}

/// What the main thread does next.
enum Next {
    Chunk(Box<QueuedRun>),
    Nothing,
    End,
}

/// The state that the I/O thread needs.
pub(crate) struct Outlook {
    pub(crate) phase: Phase,
    pub(crate) is_running: bool,
    pub(crate) num_periods: u64,
    /// When the oldest unsent result finished.
    pub(crate) pending_since_ns: Option<u64>,
}

/// The outcome of a receive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Some bytes arrived, and the complete frames were handled.
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
            wakeup: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            state: Mutex::new(State {
                sender,
                cancel_hook,
                queue: VecDeque::new(),
                commons: HashMap::new(),
                current: None,
                is_running: false,
                num_periods: 0,
                io_thread_sleeps: false,
                phase: Phase::Serving,
                failure: None,
            }),
        })
    }

    /// Sends a frame that has no user data.
    pub(crate) fn send(&self, frame: WorkerFrame) -> Result<(), WorkerError> {
        Ok(self.lock().sender.send(frame)?)
    }

    /// Marks the main thread as busy.
    pub(crate) fn enter_work(&self) {
        let mut state = self.lock();
        state.enter_work();
        self.wake_io_thread(&mut state);
    }

    /// Marks the main thread as idle.
    pub(crate) fn leave_work(&self) {
        self.lock().is_running = false;
    }

    /// Ends the I/O thread.
    pub(crate) fn end(&self) {
        self.lock().phase = Phase::Ended;
        self.wake();
    }

    /// Waits for the next chunk and returns it; `None` after Shutdown or the end of the connection.
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
        self.wake_io_thread(&mut state);
        Ok(Next::Chunk(Box::new(queued)))
    }

    /// Waits until frames have arrived; the I/O thread may have read them.
    fn wait_for_frames(&self) -> Result<Received, WorkerError> {
        let mut decoder = match self.reader.try_lock() {
            Ok(decoder) => decoder,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.wake();
                drop(self.reader.lock());
                // The frames that the I/O thread has read meanwhile come first.
                return Ok(Received::Frames);
            }
        };
        // Some may have arrived with the Welcome.
        self.handle_frames(&mut decoder)?;
        if self.has_work_or_ended() { Ok(Received::Frames) } else { self.receive(&mut decoder) }
    }

    fn has_work_or_ended(&self) -> bool {
        let state = self.lock();
        !state.queue.is_empty() || state.phase != Phase::Serving || state.failure.is_some()
    }

    /// Begins the first item of the chunk; returns `false` if none may begin.
    pub(crate) fn begin(&self) -> Result<bool, WorkerError> {
        self.lock().begin_next(monotonic_ns())
    }

    /// Stores the result of the item that ran and begins the next one; returns `false` if the chunk ends here.
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
            // Either the oldest result has waited long enough, or this item ran so long that a flush costs little.
            Some(since_ns) if now_ns - since_ns + finished.busy_ns >= MAX_PENDING_NS => state.sender.flush()?,
            Some(_) => {
                let is_begun = state.begin_next(now_ns)?;
                if is_begun && !had_pending {
                    // The next item may run long; then the I/O thread sends this result.
                    self.wake_io_thread(&mut state);
                }
                return Ok(is_begun);
            }
            None => {}
        }
        // Sending took time, which must not count for the next item.
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

    /// Returns the state that the I/O thread needs, and marks it as awake.
    pub(crate) fn outlook(&self) -> Outlook {
        let mut state = self.lock();
        state.io_thread_sleeps = false;
        Outlook {
            phase: state.phase,
            is_running: state.is_running,
            num_periods: state.num_periods,
            pending_since_ns: state.sender.pending_since_ns(),
        }
    }

    /// Marks the I/O thread as asleep until it is woken. Returns `false`, and it must not sleep, if the state has
    /// changed.
    pub(crate) fn let_io_thread_sleep(&self, outlook: &Outlook) -> bool {
        let mut state = self.lock();
        let unchanged = state.is_running == outlook.is_running
            && state.num_periods == outlook.num_periods
            && state.sender.pending_since_ns().is_none();
        state.io_thread_sleeps = unchanged;
        unchanged
    }

    /// Stores why the connection failed, for the main thread. Returns whether that is busy.
    pub(crate) fn fail(&self, failure: WorkerError) -> bool {
        let mut state = self.lock();
        state.failure.get_or_insert(failure);
        state.is_running
    }

    /// Receives once, blocking until data arrives, and handles the complete frames.
    pub(crate) fn receive(&self, decoder: &mut FrameDecoder) -> Result<Received, WorkerError> {
        let count = loop {
            match receive(&self.socket, decoder) {
                Ok(count) => break count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // The server died with our frames unread.
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

    /// Handles the complete frames.
    pub(crate) fn handle_frames(&self, decoder: &mut FrameDecoder) -> Result<(), WorkerError> {
        while let Some(frame) = decoder.next_frame()? {
            let frame = decode_server_frame(frame)?;
            let dropped = self.lock().handle(frame)?;
            // Outside of the lock: it may be large, and the main thread must not wait for the drop.
            drop(dropped);
        }
        Ok(())
    }

    fn wake_io_thread(&self, state: &mut State) {
        if state.io_thread_sleeps {
            state.io_thread_sleeps = false;
            self.wake();
        }
    }

    fn wake(&self) {
        // It can only fail when 2^64 wake-ups are pending; then one more changes nothing.
        let _ = rustix::io::write(&self.wakeup, &1_u64.to_ne_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // User code never runs under the lock, so a panic under it is a bug of this crate; the state is still
        // consistent.
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

    /// Begins the next item of the chunk, or ends the chunk and sends its remaining results.
    fn begin_next(&mut self, now_ns: u64) -> Result<bool, WorkerError> {
        let may_begin = self.phase == Phase::Serving && self.failure.is_none();
        let current = self.current.as_mut().expect("a chunk runs while its items do");
        if !may_begin || current.num_begun >= current.end {
            self.current = None;
            // Before the server gets the results: it may go away then, and the process need not exit at once.
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

    /// Handles a frame. Returns the common argument that it drops.
    fn handle(&mut self, frame: ServerFrame) -> Result<Option<Arc<RawCommon>>, WorkerError> {
        match frame {
            ServerFrame::Run(run) => {
                if self.queue.len() == MAX_QUEUED_CHUNKS {
                    return Err(WorkerError::Protocol(format!("it sent over {MAX_QUEUED_CHUNKS} chunks ahead")));
                }
                let common = match run.common {
                    0 => None,
                    name => {
                        let unknown = || protocol_error(&run, &format!("names the unknown common argument {name}"));
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
                // A cancel here can only hit the last item of this chunk: no other begins.
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
    /// Returns whether the item at this offset was the last one to begin.
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
