//! Workers without processes, that do exactly what the test says, when it says so.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use procpool_items::{ItemSlab, SlabBuilder};
use procpool_pool::supervisor::{
    COMMAND_CAPACITY, ChunkResults, ChunkRun, WorkerCommand, WorkerEvent, WorkerEventKind, WorkerSpawner,
};
use procpool_pool::{CommonArgument, ExitUsage, FunctionInfo, ItemFailure, WorkerExit};
use procpool_scheduler::{ChunkId, GracePeriods, StopReason, WorkerId};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// The functions: `echo` returns its item; `gated` does so when [`Script::release`] lets it; `raise` raises;
/// `big` returns as many bytes as its item (a decimal number) says.
const FUNCTIONS: [&str; 4] = ["big", "echo", "gated", "raise"];

/// What the workers do.
#[derive(Clone)]
pub(crate) struct Script {
    /// Workers become ready.
    pub(crate) is_ready: Arc<AtomicBool>,
    /// Workers say Hello, and exit with last words before they are ready.
    pub(crate) fails_to_start: Arc<AtomicBool>,
    /// Workers wait for this before they say anything.
    pub(crate) may_start: Arc<watch::Sender<bool>>,
    /// The functions that workers register.
    pub(crate) functions: Arc<Mutex<Vec<&'static str>>>,
    gate: Arc<Semaphore>,
    /// How many items of `gated` have begun.
    begun: Arc<watch::Sender<u64>>,
    /// How many items of any function have finished.
    finished: Arc<AtomicU64>,
    /// The `traceparent` of every chunk that a worker got.
    pub(crate) traceparents: Arc<Mutex<Vec<String>>>,
    /// Workers take common arguments.
    pub(crate) takes_common: Arc<AtomicBool>,
    /// The common arguments that workers were sent.
    pub(crate) commons: Arc<Mutex<Vec<CommonArgument>>>,
    /// The content types of the chunks that workers were sent.
    pub(crate) content_types: Arc<Mutex<Vec<String>>>,
    /// How many workers were told to end something that runs.
    pub(crate) cancelled: Arc<watch::Sender<u64>>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            is_ready: Arc::new(AtomicBool::new(true)),
            fails_to_start: Arc::default(),
            may_start: Arc::new(watch::Sender::new(true)),
            functions: Arc::new(Mutex::new(FUNCTIONS.to_vec())),
            gate: Arc::new(Semaphore::new(0)),
            begun: Arc::new(watch::Sender::new(0)),
            finished: Arc::default(),
            traceparents: Arc::default(),
            takes_common: Arc::new(AtomicBool::new(true)),
            commons: Arc::default(),
            content_types: Arc::default(),
            cancelled: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl Script {
    /// Workers start and never become ready.
    pub(crate) fn never_ready() -> Self {
        let script = Self::default();
        script.is_ready.store(false, Ordering::SeqCst);
        script
    }

    /// Workers register these functions, which return their items.
    pub(crate) fn of_functions(functions: &[&'static str]) -> Self {
        let script = Self::default();
        script.set_functions(functions);
        script
    }

    /// Workers that start from now on register these functions.
    pub(crate) fn set_functions(&self, functions: &[&'static str]) {
        *self.functions.lock().unwrap() = functions.to_vec();
    }

    /// Lets this many items of `gated` finish.
    pub(crate) fn release(&self, items: usize) {
        self.gate.add_permits(items);
    }

    /// Waits until this many items of `gated` have begun.
    pub(crate) async fn begun(&self, items: u64) {
        super::within(self.begun.subscribe().wait_for(|begun| *begun >= items)).await.unwrap();
    }

    /// Returns how many items have finished.
    pub(crate) fn num_finished(&self) -> u64 {
        self.finished.load(Ordering::SeqCst)
    }

    /// Returns how many items of `gated` have begun.
    pub(crate) fn num_begun(&self) -> u64 {
        *self.begun.borrow()
    }
}

pub(crate) struct ScriptedSpawner {
    script: Script,
    workers: TaskTracker,
}

impl ScriptedSpawner {
    pub(crate) fn new(script: Script) -> Self {
        Self { script, workers: TaskTracker::new() }
    }
}

impl WorkerSpawner for ScriptedSpawner {
    fn spawn(
        &self,
        worker: WorkerId,
        grace: GracePeriods,
        events: mpsc::Sender<WorkerEvent>,
    ) -> mpsc::Sender<WorkerCommand> {
        let (sender, commands) = mpsc::channel(COMMAND_CAPACITY);
        let (script, chunks) = (self.script.clone(), VecDeque::new());
        let scripted = ScriptedWorker { script, worker, grace, events, chunks, done: 0, ends_at: None };
        self.workers.spawn(scripted.run(commands));
        sender
    }
}

struct ScriptedWorker {
    script: Script,
    worker: WorkerId,
    grace: GracePeriods,
    events: mpsc::Sender<WorkerEvent>,
    chunks: VecDeque<ChunkRun>,
    /// How many items of the first chunk are done.
    done: u32,
    /// When it is ended if it still runs its item.
    ends_at: Option<Instant>,
}

impl ScriptedWorker {
    async fn run(mut self, mut commands: mpsc::Receiver<WorkerCommand>) {
        let may_start = self.script.may_start.clone();
        tokio::select! {
            _ = async { may_start.subscribe().wait_for(|may_start| *may_start).await.map(|_| ()) } => {}
            _ = commands.recv() => {
                let exit = WorkerExit::Signal(15);
                return self.tell(WorkerEventKind::Exited { exit, usage: ExitUsage::default(), running: None, stderr_tail: String::new() }).await;
            }
        }
        let functions = self.script.functions.lock().unwrap().clone().into_iter().map(|name| FunctionInfo {
            name: name.to_owned(),
            signature: "(item)".to_owned(),
            doc: String::new(),
            example: String::new(),
            idempotent: false,
            takes_common: self.script.takes_common.load(Ordering::SeqCst),
        });
        let functions = functions.collect();
        self.tell(WorkerEventKind::Hello { pid: 1, sdk: "scripted".to_owned(), functions }).await;
        if self.script.fails_to_start.load(Ordering::SeqCst) {
            let (exit, stderr_tail) = (WorkerExit::Code(1), "Traceback\nRuntimeError: no such database\n".to_owned());
            let exited = WorkerEventKind::Exited { exit, usage: ExitUsage::default(), running: None, stderr_tail };
            return self.tell(exited).await;
        }
        if self.script.is_ready.load(Ordering::SeqCst) {
            self.tell(WorkerEventKind::Ready).await;
        }
        let gate = Arc::clone(&self.script.gate);
        loop {
            let command = match self.chunks.front().map(|chunk| &*chunk.function) {
                Some("gated") => tokio::select! {
                    permit = gate.acquire() => {
                        permit.unwrap().forget();
                        self.finish_items(1).await;
                        self.note_begun();
                        continue;
                    }
                    () = time_limit(self.chunks.front()) => {
                        self.expire().await;
                        continue;
                    }
                    () = async { tokio::time::sleep_until(self.ends_at.unwrap()).await }, if self.ends_at.is_some() => {
                        self.tell(WorkerEventKind::Stopping { reason: StopReason::Cancelled }).await;
                        break;
                    }
                    command = commands.recv() => command,
                },
                // One result at a time, so that what is told in between is heard.
                Some("big") => {
                    self.finish_items(1).await;
                    tokio::task::yield_now().await;
                    match commands.try_recv() {
                        Ok(command) => Some(command),
                        Err(_) => continue,
                    }
                }
                Some(_) => {
                    self.finish_items(u32::MAX).await;
                    continue;
                }
                None => commands.recv().await,
            };
            match command {
                Some(WorkerCommand::Run(chunk)) => {
                    self.script.traceparents.lock().unwrap().push(chunk.trace.traceparent.clone());
                    self.script.content_types.lock().unwrap().push(chunk.content_type.to_string());
                    let news = chunk.common.clone().and_then(|common| common.argument);
                    self.script.commons.lock().unwrap().extend(news);
                    self.chunks.push_back(chunk);
                    if self.chunks.len() == 1 {
                        self.note_begun();
                    }
                }
                Some(WorkerCommand::Recall { chunk, cancel }) => self.recall(chunk, cancel).await,
                Some(WorkerCommand::DropCommons(_)) => {}
                Some(WorkerCommand::Dump(answer)) => answer.send(Ok("the stack".to_owned())).unwrap(),
                Some(WorkerCommand::Shutdown | WorkerCommand::Terminate | WorkerCommand::Kill) | None => break,
            }
        }
        let running = self.chunks.front().map(|chunk| (chunk.chunk, self.done));
        let exit = WorkerExit::Signal(15);
        self.tell(WorkerEventKind::Exited { exit, usage: ExitUsage::default(), running, stderr_tail: String::new() })
            .await;
    }

    async fn tell(&self, kind: WorkerEventKind) {
        // The driver may have gone.
        let _ = self.events.send(WorkerEvent { worker: self.worker, kind }).await;
    }

    /// Counts the item that runs now.
    fn note_begun(&self) {
        if self.chunks.front().is_some_and(|chunk| &*chunk.function == "gated") {
            self.script.begun.send_modify(|begun| *begun += 1);
        }
    }

    /// Finishes items of the first chunk.
    async fn finish_items(&mut self, most: u32) {
        let chunk = &self.chunks[0];
        let items = ItemSlab::parse(chunk.kind, chunk.parts.concat().into()).unwrap();
        let (first, count) = (self.done, most.min(chunk.count - self.done));
        let mut results = SlabBuilder::new();
        let mut failures = Vec::new();
        for offset in first..first + count {
            let item = items.item(offset as usize);
            match &*chunk.function {
                "raise" => {
                    results.push_placeholder(chunk.kind);
                    failures.push((offset, raised()));
                }
                "big" => {
                    let size: usize = std::str::from_utf8(&item).unwrap().parse().unwrap();
                    results.push(&vec![7; size]);
                }
                _ => results.push(&item),
            }
        }
        let item_time = Duration::from_micros(if &*chunk.function == "big" { 1000 } else { 1 });
        let finished =
            ChunkResults { chunk: chunk.chunk, first, count, failures, busy: item_time * count, items: results.take() };
        self.done += count;
        self.script.finished.fetch_add(count.into(), Ordering::SeqCst);
        if self.done == chunk.count {
            self.chunks.pop_front();
            (self.done, self.ends_at) = (0, None);
        }
        self.tell(WorkerEventKind::Results(finished)).await;
    }

    async fn recall(&mut self, chunk: ChunkId, cancel: bool) {
        let Some(position) = self.chunks.iter().position(|run| run.chunk == chunk) else { return };
        if cancel {
            if position == 0 {
                self.ends_at = Some(Instant::now() + self.grace.cancel);
            }
            self.script.cancelled.send_modify(|cancelled| *cancelled += 1);
        }
        let first_not_begun = if position == 0 { self.done + 1 } else { 0 };
        if position == 0 {
            self.chunks[0].count = first_not_begun;
        } else {
            self.chunks.remove(position);
        }
        self.tell(WorkerEventKind::Recalled { chunk, first_not_begun }).await;
    }

    /// The time of the item that runs is up.
    async fn expire(&mut self) {
        let offset = self.done;
        let chunk = self.chunks.front_mut().expect("it runs an item");
        chunk.time_limit = None;
        let chunk = chunk.chunk;
        self.ends_at = Some(Instant::now() + self.grace.cancel);
        self.tell(WorkerEventKind::ItemExpired { chunk, offset, stack: String::new() }).await;
    }
}

/// Waits until the time of an item of the chunk is up that begins now.
async fn time_limit(chunk: Option<&ChunkRun>) {
    match chunk.and_then(|chunk| chunk.time_limit) {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn raised() -> ItemFailure {
    ItemFailure::Raised {
        kind: "ValueError".to_owned(),
        message: "no such luck".to_owned(),
        traceback: "Traceback\n  line 1\nValueError: no such luck".to_owned(),
        data: Bytes::from_static(b"no such luck, in its own form"),
    }
}
