//! Supervises one worker from its start to its reaping: the task that owns its process, its channel and its output.
//!
//! # Overview
//!
//! One loop, one owner, no locks: `select` waits for the next thing to happen, and a function that does not wait handles
//! it. So nothing can hold up a Kill: neither a worker that does not read, nor one that does not stop writing, nor a
//! driver that takes its time with the events.
//!
//! A worker that breaks the protocol is killed, and nothing that it sends is read any more. Whatever happens, the loop
//! ends with the death of the process and with nothing else; then [`exit`] reaps the worker and reports
//! what it left. So it does after a panic, which kills the worker.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use procpool_ipc::page::PageReader;
use procpool_ipc::proto;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_scheduler::{ChunkId, GracePeriods, ItemWatch, WorkerId};
use tokio::net::unix::pipe;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};

use self::channel::Channel;
use self::chunks::{AssignedChunks, Position};
use self::dump::Dumper;
use self::memory::MemoryJudge;
use self::ping::Ping;
use super::config::MemoryLimits;
use super::interface::{WorkerCommand, WorkerEvent, WorkerEventKind};
use super::monitor::Watch;
use super::output::{Output, OutputContext};
use super::process_group::Process;
use crate::error::{DumpFailure, WorkerExit};

mod channel;
mod check;
mod chunks;
#[cfg(test)]
mod chunks_tests;
mod dump;
mod exit;
#[cfg(test)]
mod fail_safe_tests;
mod frames;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod health;
mod items;
#[cfg(test)]
mod items_tests;
mod memory;
mod ping;
#[cfg(test)]
mod ping_tests;
#[cfg(test)]
mod puppet;

/// How long a worker may live on after it has closed its channel.
const CLOSED_CHANNEL_GRACE_PERIOD: Duration = Duration::from_millis(500);

/// After so many reads in a row, and after each of output, the runtime gets to ask the kernel. It does so when no task
/// is left that can go on, or now and then; and until then neither a timer that is over nor a process that is dead would
/// be noticed while there is more to read.
const READS_PER_LOOK: u32 = 16;

/// How many may wait for one dump of the stacks.
const MAX_DUMP_WAITERS: usize = 16;

/// A worker process that was just started, and our ends of what leads to it.
#[derive(Debug)]
pub(super) struct Started<P> {
    pub(super) worker: WorkerId,
    pub(super) process: P,
    pub(super) stream: tokio::net::UnixStream,
    /// `None` if there is no progress page.
    pub(super) page: Option<PageReader>,
    /// The reading end of the pipe for stack dumps.
    pub(super) dumps: pipe::Receiver,
    pub(super) output: Output,
    pub(super) max_frame_bytes: u32,
    pub(super) memory: MemoryLimits,
    /// It may register reserved names.
    pub(super) allow_pickle: bool,
    /// `None`: nobody looks at it.
    pub(super) watch: Option<Watch>,
}

/// What a worker has said about itself so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing.
    Connected,
    /// Hello.
    Loaded,
    /// Ready.
    Ready,
}

/// Why a worker was killed by us.
#[derive(Debug)]
enum KillCause {
    /// That is how it ends.
    Ours(WorkerExit),
    /// Somebody told us to.
    Told,
}

/// Why a worker is killed whose session has panicked.
const PANIC_REASON: &str = "its supervision panicked, which is a bug in the server";

/// A worker that lives.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "what it can, may and has been told are independent")]
pub(super) struct Session<P> {
    worker: WorkerId,
    process: Arc<P>,
    channel: Channel,
    page: Option<PageReader>,
    max_frame_bytes: u32,
    dumper: Dumper,
    /// Who waits for the dump that is under way.
    dump_waiters: Vec<oneshot::Sender<Result<String, DumpFailure>>>,
    /// The item whose time was up when the dump began.
    dump_of: Option<Position>,
    /// The last item whose time was up, and the stacks of that time.
    stack_of: Option<(Position, String)>,
    output: Output,
    chunks: AssignedChunks,
    /// When the item that runs has to end.
    items: ItemWatch,
    /// Zero of the time of `items`.
    epoch: Instant,
    stage: Stage,
    /// As the worker told; its process id may be another one where a wrapper started it.
    uses_page: bool,
    /// It knows what a common argument is.
    takes_common: bool,
    allow_pickle: bool,
    events: mpsc::Sender<WorkerEvent>,
    /// Events that the driver had no room for. While there is one, no frame is read, and no item is told that its time is
    /// up; so there is at most one of these, one for each chunk that was refused, one about its memory, and one that the
    /// worker is stopping.
    pending: VecDeque<WorkerEventKind>,
    /// How the worker broke the protocol. Nothing that it sends is read then.
    violation: Option<String>,
    memory: MemoryJudge,
    watch: Option<Watch>,
    /// What the worker had begun when it was found stopped, and got SIGCONT.
    resumed_at: Option<u64>,
    /// We have told it to end, in one way or the other.
    is_ending: bool,
    /// Why we have sent SIGKILL, if we have.
    killed: Option<KillCause>,
    /// When a worker that has closed its channel is killed.
    closed_deadline: Option<Instant>,
    ping: Ping,
    /// The chunk that ran last: lines that were printed near its end still belong to it.
    context: OutputContext,
}

/// The next thing that happens.
enum Turn {
    Command(Option<WorkerCommand>),
    EventRoom(Option<mpsc::OwnedPermit<WorkerEvent>>),
    Dead,
    LookedAt,
    Writable,
    Readable,
    Output,
    Dump,
    Alarm,
}

impl<P: Process> Session<P> {
    pub(super) fn new(started: Started<P>, grace: GracePeriods, events: mpsc::Sender<WorkerEvent>) -> Self {
        let Started { worker, process, stream, page, dumps, output, max_frame_bytes, memory, allow_pickle, watch } =
            started;
        let context = OutputContext {
            worker: worker.generation,
            slot: worker.slot.0,
            pid: process.pid(),
            ..OutputContext::default()
        };
        Self {
            worker,
            memory: MemoryJudge::new(process.pid(), memory),
            watch,
            resumed_at: None,
            process: Arc::new(process),
            channel: Channel::new(stream, max_frame_bytes),
            page,
            max_frame_bytes,
            dumper: Dumper::new(dumps),
            dump_waiters: Vec::new(),
            dump_of: None,
            stack_of: None,
            output,
            chunks: AssignedChunks::new(),
            items: ItemWatch::new(grace),
            epoch: Instant::now(),
            stage: Stage::Connected,
            uses_page: false,
            takes_common: false,
            allow_pickle,
            events,
            pending: VecDeque::new(),
            violation: None,
            is_ending: false,
            killed: None,
            closed_deadline: None,
            ping: Ping::default(),
            context,
        }
    }

    /// Runs until the worker is dead and reaped.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<WorkerCommand>) {
        let served = AssertUnwindSafe(self.serve(&mut commands)).catch_unwind().await;
        if served.is_err() {
            tracing::error!(
                worker = self.worker.generation,
                slot = self.worker.slot.0,
                pid = self.context.pid,
                "the session of a worker has panicked, which is a bug; the worker is killed"
            );
            self.give_up(PANIC_REASON);
            self.process.dead().await;
        }
        self.reap().await;
    }

    /// Runs until the worker is dead.
    async fn serve(&mut self, commands: &mut mpsc::Receiver<WorkerCommand>) {
        self.emit(WorkerEventKind::Started { pid: self.process.pid() });
        let (mut commands_open, mut num_reads) = (true, 0);
        // One timer for all that is due some time: to set one anew in each turn would cost more than the turn.
        let mut alarm = pin!(tokio::time::sleep_until(Instant::now()));
        loop {
            if let Some(at) = self.next_alarm().filter(|&at| at != alarm.deadline() || alarm.is_elapsed()) {
                alarm.as_mut().reset(at);
            }
            let turn = self.select(commands, commands_open, alarm.as_mut()).await;
            match turn {
                Turn::Dead => break,
                Turn::Command(Some(command)) => self.obey(command),
                Turn::Command(None) => {
                    commands_open = false;
                    self.kill();
                }
                Turn::EventRoom(Some(permit)) => {
                    if let Some(kind) = self.pending.pop_front() {
                        permit.send(WorkerEvent { worker: self.worker, kind });
                    }
                }
                // Nobody listens; the driver is gone, and its end of the commands with it.
                Turn::EventRoom(None) => self.pending.clear(),
                Turn::LookedAt => self.take_reading(),
                // There was no room before, and the worker has made some.
                Turn::Writable if self.channel.write() => self.ping.has_read(),
                Turn::Writable => {}
                Turn::Readable => {
                    self.read_channel();
                    num_reads += 1;
                }
                Turn::Output => {
                    self.read_output(|output, context| output.read(context));
                    num_reads += READS_PER_LOOK;
                }
                Turn::Dump => self.continue_dump(),
                Turn::Alarm => self.do_what_is_due(),
            }
            self.handle_frames();
            self.note_front();
            self.watch_channel();
            if num_reads >= READS_PER_LOOK {
                num_reads = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    async fn select(
        &self,
        commands: &mut mpsc::Receiver<WorkerCommand>,
        commands_open: bool,
        alarm: Pin<&mut Sleep>,
    ) -> Turn {
        let has_pending = !self.pending.is_empty();
        let looked_at = async {
            match &self.watch {
                Some(watch) => watch.news().await,
                None => std::future::pending().await,
            }
        };
        // In this order: what ends the worker first, then what makes room, then what fills it. The worker may be able to
        // keep the last of these ready for ever.
        tokio::select! {
            biased;
            command = commands.recv(), if commands_open => Turn::Command(command),
            () = self.process.dead() => Turn::Dead,
            () = alarm, if self.next_alarm().is_some() => Turn::Alarm,
            () = looked_at => Turn::LookedAt,
            permit = async { self.events.clone().reserve_owned().await }, if has_pending => Turn::EventRoom(permit.ok()),
            () = self.channel.writable() => Turn::Writable,
            () = self.channel.readable(), if self.may_read() => Turn::Readable,
            () = self.dumper.readable() => Turn::Dump,
            () = self.output.readable() => Turn::Output,
        }
    }

    /// Returns when something is due that nothing else tells of.
    fn next_alarm(&self) -> Option<Instant> {
        [self.closed_deadline, self.ping.look_at, self.dumper.over_at(), self.next_look()].into_iter().flatten().min()
    }

    fn do_what_is_due(&mut self) {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.closed_deadline) {
            self.closed_deadline = None;
            self.break_off("closed its channel".to_owned());
        }
        if is_due(self.ping.look_at) {
            self.look_for_life();
        }
        if is_due(self.dumper.over_at()) {
            self.continue_dump();
        }
        if is_due(self.next_look()) {
            self.look_at_items();
        }
    }

    /// Returns whether there is room for what the next frame says, and the worker is still believed.
    fn may_read(&self) -> bool {
        self.pending.is_empty() && self.violation.is_none()
    }

    fn read_channel(&mut self) {
        if self.may_read() && self.channel.read() > 0 {
            self.ping.has_sent();
            // What the worker printed before it sent a result belongs to that result's item: so it is read after the
            // frame and before the frame is handled.
            self.read_output(|output, context| output.read_present(context));
        }
    }

    fn obey(&mut self, command: WorkerCommand) {
        match command {
            WorkerCommand::Run(run) => self.send_run(run),
            WorkerCommand::Recall { chunk, cancel } => self.recall(chunk, cancel),
            WorkerCommand::DropCommons(commons) => self.drop_commons(&commons),
            WorkerCommand::Dump(answer) => self.dump_for(answer),
            WorkerCommand::Shutdown => {
                self.is_ending = true;
                self.send(ServerFrame::Shutdown(proto::Shutdown {}));
            }
            WorkerCommand::Terminate => self.terminate(),
            WorkerCommand::Kill => self.kill(),
        }
    }

    fn terminate(&mut self) {
        self.is_ending = true;
        self.process.terminate();
    }

    fn kill(&mut self) {
        self.is_ending = true;
        self.killed.get_or_insert(KillCause::Told);
        self.process.kill();
    }

    /// Kills a worker that nobody has told us to kill.
    fn give_up(&mut self, reason: &'static str) {
        // Not `is_ending`: this is no end that somebody has asked for.
        self.killed.get_or_insert(KillCause::Ours(WorkerExit::GivenUp { reason }));
        self.process.kill();
    }

    fn emit(&mut self, kind: WorkerEventKind) {
        if !self.pending.is_empty() {
            self.pending.push_back(kind);
            return;
        }
        match self.events.try_send(WorkerEvent { worker: self.worker, kind }) {
            Err(TrySendError::Full(event)) => self.pending.push_back(event.kind),
            // Nobody listens; the driver is gone, and its end of the commands with it.
            Ok(()) | Err(TrySendError::Closed(_)) => {}
        }
    }

    /// Gives up on a worker that breaks the protocol.
    fn break_off(&mut self, violation: String) {
        tracing::warn!(
            worker = self.worker.generation,
            slot = self.worker.slot.0,
            pid = self.process.pid(),
            violation,
            "worker broke the protocol and is killed"
        );
        self.violation = Some(violation);
        self.kill();
    }

    /// Gives a worker that has closed its channel a moment to exit. One that was told to end may take as long as
    /// whoever told it allows.
    fn watch_channel(&mut self) {
        if !self.channel.is_closed() || self.is_ending {
            self.closed_deadline = None;
        } else if self.closed_deadline.is_none() {
            self.closed_deadline = Some(Instant::now() + CLOSED_CHANNEL_GRACE_PERIOD);
        }
    }

    /// Returns the sequence number of the item that the worker began last; 0 if it has begun none.
    fn begun(&self) -> u64 {
        match &self.page {
            Some(page) if self.uses_page => page.begun().unwrap_or_else(|error| {
                tracing::warn!(worker = self.worker.generation, %error, "the progress page cannot be read");
                0
            }),
            _ => self.chunks.started(),
        }
    }

    fn recall(&mut self, chunk: ChunkId, cancel: bool) {
        if self.chunks.recall(chunk, cancel) {
            self.send(ServerFrame::Recall(proto::Recall { chunk: chunk.0, cancel, cancel_offset: None }));
            if cancel {
                self.look_at_items();
            }
        }
    }

    fn read_output(&mut self, read: impl FnOnce(&mut Output, &dyn Fn() -> OutputContext)) {
        let Self { output, chunks, page, context, uses_page, .. } = self;
        let page = page.as_ref().filter(|_| *uses_page);
        read(output, &|| {
            let begun = page.map_or_else(|| chunks.started(), |page| page.begun().unwrap_or(0));
            OutputContext { item: chunks.only_suspect(begun), ..*context }
        });
    }

    fn note_front(&mut self) {
        if let Some(front) = self.chunks.front() {
            self.context.job = Some(front.job);
            self.context.chunk = Some(front.chunk.0);
        }
    }
}
