//! One worker from its start to its burial: the task that owns its process, its channel and its output.
//!
//! # Overview
//!
//! One loop, one owner, no locks: `select` waits for the next thing to happen, and a function that does not wait handles
//! it. So nothing can hold up a Kill: neither a worker that does not read, nor one that does not stop writing, nor a
//! driver that takes its time with the events.
//!
//! A worker that breaks the protocol is killed, and nothing that it sends is read any more. Whatever happens, the loop
//! ends with the death of the process and with nothing else; then [`burial`] finds out what the worker left.

use std::collections::VecDeque;
use std::time::Duration;

use procpool_ipc::page::{PageReader, monotonic_ns};
use procpool_ipc::proto;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_scheduler::WorkerId;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use self::channel::Channel;
use self::ledger::Ledger;
use super::output::{Output, OutputContext};
use super::process_group::WorkerProcess;
use super::{WorkerCommand, WorkerEvent, WorkerEventKind};

mod burial;
mod channel;
mod check;
mod frames;
mod ledger;
#[cfg(test)]
mod ledger_tests;

/// How long a worker may live on after it has closed its channel.
const CLOSED_CHANNEL_GRACE_PERIOD: Duration = Duration::from_millis(500);

/// How long a worker that has begun nothing of what it has may take to answer a Ping. Long, since a busy machine is no
/// reason to kill it.
const PONG_TIMEOUT: Duration = Duration::from_secs(5);

/// A worker process that was just started, and our ends of what leads to it.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) worker: WorkerId,
    pub(super) process: WorkerProcess,
    pub(super) stream: tokio::net::UnixStream,
    /// `None` if there is no progress page.
    pub(super) page: Option<PageReader>,
    pub(super) output: Output,
    pub(super) max_frame_bytes: u32,
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

/// A worker that lives.
#[derive(Debug)]
pub(super) struct Session {
    worker: WorkerId,
    process: WorkerProcess,
    channel: Channel,
    page: Option<PageReader>,
    max_frame_bytes: u32,
    output: Output,
    ledger: Ledger,
    stage: Stage,
    /// As the worker told; its process id may be another one where a wrapper started it.
    uses_page: bool,
    /// It knows what a common argument is.
    takes_common: bool,
    events: mpsc::Sender<WorkerEvent>,
    /// Events that the driver had no room for. No frame is read while there is one; so there is at most one from a
    /// frame, one for each chunk that was refused, and the answer to the last probe.
    pending: VecDeque<WorkerEventKind>,
    /// How the worker broke the protocol. Nothing that it sends is read then.
    violation: Option<String>,
    /// We have told it to end, in one way or the other.
    is_ending: bool,
    /// When a worker that has closed its channel is killed.
    closed_deadline: Option<Instant>,
    ping: Ping,
    /// The chunk that ran last: lines that were printed near its end still belong to it.
    context: OutputContext,
}

/// Whether a worker was asked for a sign of life.
#[derive(Debug, Clone, Copy, Default)]
struct Ping {
    /// The Pong has not come.
    is_due: bool,
    /// When a worker that has not said anything since is killed.
    deadline: Option<Instant>,
}

/// The next thing that happens.
enum Turn {
    Command(Option<WorkerCommand>),
    EventRoom(Option<mpsc::OwnedPermit<WorkerEvent>>),
    Dead,
    Writable,
    Readable,
    Output,
    ChannelClosedTooLong,
    NoPong,
}

impl Session {
    pub(super) fn new(started: Started, events: mpsc::Sender<WorkerEvent>) -> Self {
        let Started { worker, process, stream, page, output, max_frame_bytes } = started;
        let context = OutputContext {
            worker: worker.generation,
            slot: worker.slot.0,
            pid: process.pid(),
            ..OutputContext::default()
        };
        Self {
            worker,
            process,
            channel: Channel::new(stream, max_frame_bytes),
            page,
            max_frame_bytes,
            output,
            ledger: Ledger::new(),
            stage: Stage::Connected,
            uses_page: false,
            takes_common: false,
            events,
            pending: VecDeque::new(),
            violation: None,
            is_ending: false,
            closed_deadline: None,
            ping: Ping::default(),
            context,
        }
    }

    /// Runs until the worker is dead and buried.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<WorkerCommand>) {
        let mut commands_open = true;
        loop {
            let turn = self.select(&mut commands, commands_open).await;
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
                Turn::Writable => self.channel.write(),
                Turn::Readable => {
                    if self.channel.read() > 0 {
                        // What the worker printed before it sent a result belongs to that result's item: so it is read
                        // after the frame and before the frame is handled.
                        self.read_output(|output, context| output.read_present(context));
                    }
                }
                Turn::Output => self.read_output(|output, context| output.read(context)),
                Turn::ChannelClosedTooLong => {
                    self.closed_deadline = None;
                    self.break_off("closed its channel".to_owned());
                }
                Turn::NoPong => self.give_up_if_silent(),
            }
            self.handle_frames();
            self.note_front();
            self.watch_channel();
        }
        self.bury().await;
    }

    async fn select(&self, commands: &mut mpsc::Receiver<WorkerCommand>, commands_open: bool) -> Turn {
        let has_pending = !self.pending.is_empty();
        let may_read = self.pending.is_empty() && self.violation.is_none();
        let until = async |deadline: Option<Instant>| match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        };
        // In this order: what ends the worker first, then what makes room, then what fills it.
        tokio::select! {
            biased;
            command = commands.recv(), if commands_open => Turn::Command(command),
            () = self.process.dead() => Turn::Dead,
            permit = async { self.events.clone().reserve_owned().await }, if has_pending => Turn::EventRoom(permit.ok()),
            () = self.channel.writable() => Turn::Writable,
            () = self.channel.readable(), if may_read => Turn::Readable,
            () = self.output.readable() => Turn::Output,
            () = until(self.closed_deadline) => Turn::ChannelClosedTooLong,
            () = until(self.ping.deadline) => Turn::NoPong,
        }
    }

    fn obey(&mut self, command: WorkerCommand) {
        match command {
            WorkerCommand::Run(run) => self.send_run(run),
            WorkerCommand::Recall { chunk, cancel } => {
                if self.ledger.recall(chunk) {
                    self.send(ServerFrame::Recall(proto::Recall { chunk: chunk.0, cancel }));
                }
            }
            WorkerCommand::DropCommons(commons) => self.drop_commons(&commons),
            WorkerCommand::Probe => match self.progress() {
                Some(progress) => {
                    // Only the latest answer is of use.
                    self.pending.retain(|kind| !matches!(kind, WorkerEventKind::Progress { .. }));
                    self.emit(progress);
                }
                None => self.ask_for_life(),
            },
            WorkerCommand::Shutdown => {
                self.is_ending = true;
                self.send(ServerFrame::Shutdown(proto::Shutdown {}));
            }
            WorkerCommand::Terminate => {
                self.is_ending = true;
                self.process.terminate();
            }
            WorkerCommand::Kill => self.kill(),
        }
    }

    fn kill(&mut self) {
        self.is_ending = true;
        self.process.kill();
    }

    /// The worker has something to run and has not begun it in the time that an item may take: it is slow to take it up,
    /// or it never will, as one that was stopped.
    fn ask_for_life(&mut self) {
        if self.ledger.front().is_none() || self.ping.deadline.is_some() || self.is_ending {
            return;
        }
        if !self.ping.is_due {
            self.send(ServerFrame::Ping(proto::Ping::default()));
        }
        self.ping = Ping { is_due: true, deadline: Some(Instant::now() + PONG_TIMEOUT) };
    }

    /// A worker that does not read while it runs an item cannot answer, but then it has begun one.
    fn give_up_if_silent(&mut self) {
        self.ping.deadline = None;
        if self.progress().is_none() && !self.is_ending {
            tracing::warn!(
                worker = self.worker.generation,
                slot = self.worker.slot.0,
                pid = self.process.pid(),
                timeout = ?PONG_TIMEOUT,
                "worker neither begins its items nor answers, and is killed"
            );
            // Not `kill`: this is no end that somebody has asked for.
            self.process.kill();
        }
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
            _ => self.ledger.started(),
        }
    }

    /// Returns which item runs and since when. Without a start time, since its chunk was handed over.
    fn progress(&self) -> Option<WorkerEventKind> {
        let (entry, position) = self.ledger.locate(self.begun())?;
        let page = self.page.as_ref().filter(|_| self.uses_page);
        let stamp_ns = page.and_then(|page| page.begun_at_ns().ok()).unwrap_or(0);
        let began_at_ns = stamp_ns.max(entry.given_at_ns);
        let running_for = Duration::from_nanos(monotonic_ns().saturating_sub(began_at_ns));
        Some(WorkerEventKind::Progress { chunk: position.chunk, offset: position.offset, running_for })
    }

    fn read_output(&mut self, read: impl FnOnce(&mut Output, &dyn Fn() -> OutputContext)) {
        let Self { output, ledger, page, context, uses_page, .. } = self;
        let page = page.as_ref().filter(|_| *uses_page);
        read(output, &|| {
            let begun = page.map_or_else(|| ledger.started(), |page| page.begun().unwrap_or(0));
            OutputContext { item: ledger.only_suspect(begun), ..*context }
        });
    }

    fn note_front(&mut self) {
        if let Some(front) = self.ledger.front() {
            self.context.job = Some(front.job);
            self.context.chunk = Some(front.chunk.0);
        }
    }
}
