//! The state behind the channel's lock: which chunk runs, which of its items have begun, what is queued, and what each
//! frame of the server changes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use procpool_ipc::page::monotonic_ns;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_ipc::proto::{Pong, Recall, Recalled, Run, Started};
use procpool_items::ItemKind;

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
pub(crate) struct State {
    pub(crate) sender: Sender,
    cancel_hook: Option<CancelHook>,
    queue: VecDeque<QueuedRun>,
    /// The common arguments that Run frames may name.
    commons: HashMap<u64, Arc<RawCommon>>,
    current: Option<Current>,
    /// The main thread is busy, not waiting for frames.
    pub(crate) is_running: bool,
    /// How often the main thread has become busy.
    pub(crate) num_periods: u64,
    /// The I/O thread sleeps until it is woken.
    pub(crate) io_thread_sleeps: bool,
    pub(crate) phase: Phase,
    /// Why the connection failed, until the main thread takes it.
    pub(crate) failure: Option<WorkerError>,
}

/// The phase of the worker's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It finds its functions, and has sent nothing yet.
    Loading,
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
pub(crate) enum Next {
    Chunk(Box<QueuedRun>),
    Nothing,
    End,
}

/// What follows a finished item.
pub(crate) struct Step {
    /// The next item of the chunk has begun.
    pub(crate) is_begun: bool,
    /// A result waits that did not before, and the next item may run long: then the I/O thread sends it.
    pub(crate) has_new_pending: bool,
}

impl State {
    pub(crate) fn new(sender: Sender, cancel_hook: Option<CancelHook>) -> Self {
        Self {
            sender,
            cancel_hook,
            queue: VecDeque::new(),
            commons: HashMap::new(),
            current: None,
            is_running: false,
            num_periods: 0,
            io_thread_sleeps: false,
            phase: Phase::Loading,
            failure: None,
        }
    }

    pub(crate) fn enter_work(&mut self) {
        self.is_running = true;
        self.num_periods += 1;
    }

    pub(crate) fn has_work_or_ended(&self) -> bool {
        !self.queue.is_empty() || self.phase != Phase::Serving || self.failure.is_some()
    }

    /// Takes the next chunk from the queue.
    pub(crate) fn poll_chunk(&mut self) -> Result<Next, WorkerError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.phase != Phase::Serving {
            return Ok(Next::End);
        }
        let Some(queued) = self.queue.pop_front() else {
            self.is_running = false;
            return Ok(Next::Nothing);
        };
        CANCELLED.store(false, Ordering::Relaxed);
        let run = &queued.run;
        self.current = Some(Current {
            chunk: run.chunk,
            kind: kind_of(run)?,
            first_sequence: run.first_sequence,
            stamp_start: run.stamp_start,
            num_begun: 0,
            end: run.count,
            was_recalled: false,
            since_ns: 0,
        });
        self.enter_work();
        Ok(Next::Chunk(Box::new(queued)))
    }

    fn current(&mut self) -> &mut Current {
        self.current.as_mut().expect("a chunk runs while its items do")
    }

    /// Returns whether [`State::finish`] will send something.
    pub(crate) fn finish_sends(&mut self, result: &Result<&[u8], Failure>, now_ns: u64) -> bool {
        let Ok(content) = result else { return true };
        let is_over = self.phase != Phase::Serving || self.failure.is_some();
        let since_ns = self.sender.pending_since_ns().unwrap_or(now_ns);
        let current = self.current();
        let busy_ns = now_ns.saturating_sub(current.since_ns);
        is_over
            || current.num_begun >= current.end
            || now_ns.saturating_sub(since_ns) + busy_ns >= MAX_PENDING_NS
            || !self.sender.can_journal(content.len())
    }

    /// Stores the result of the item that ran and begins the next one.
    pub(crate) fn finish(&mut self, result: Result<&[u8], Failure>, now_ns: u64) -> Result<Step, WorkerError> {
        let had_pending = self.sender.pending_since_ns().is_some();
        let finished = self.current().finished(now_ns);
        match result {
            Ok(content) => self.sender.push_result(finished, content)?,
            Err(failure) => self.sender.push_failure(finished, failure)?,
        }
        match self.sender.pending_since_ns() {
            // Either the oldest result has waited long enough, or this item ran so long that a flush costs little.
            Some(since_ns) if now_ns - since_ns + finished.busy_ns >= MAX_PENDING_NS => self.sender.flush()?,
            Some(_) => {
                let is_begun = self.begin_next(now_ns)?;
                return Ok(Step { is_begun, has_new_pending: is_begun && !had_pending });
            }
            None => {}
        }
        // Sending took time, which must not count for the next item.
        Ok(Step { is_begun: self.begin_next(monotonic_ns())?, has_new_pending: false })
    }

    /// Begins the next item of the chunk, or ends the chunk and sends its remaining results.
    pub(crate) fn begin_next(&mut self, now_ns: u64) -> Result<bool, WorkerError> {
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
    pub(crate) fn handle(&mut self, frame: ServerFrame) -> Result<Option<Arc<RawCommon>>, WorkerError> {
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
