//! Workers that do what a test says.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use procpool_items::{ItemKind, ItemSlab, SlabBuilder};
use procpool_pool::supervisor::{
    COMMAND_CAPACITY, ChunkResults, ChunkRun, WorkerCommand, WorkerEvent, WorkerEventKind, WorkerSpawner,
};
use procpool_pool::{
    Call, ExitUsage, FunctionInfo, ItemFailure, JobNumbers, PoolConfig, PoolHandle, PoolObserver, PoolTask, WorkerExit,
};
use procpool_scheduler::{ChunkId, GracePeriods, StopReason, WorkerId};
use tokio::sync::mpsc;

/// A pool whose workers are the test's.
pub(crate) struct ScriptedPool {
    pub(crate) handle: PoolHandle,
    pub(crate) task: PoolTask,
    spawned: mpsc::Receiver<ScriptedWorker>,
}

/// A worker in the hands of a test.
pub(crate) struct ScriptedWorker {
    pub(crate) id: WorkerId,
    events: mpsc::Sender<WorkerEvent>,
    commands: mpsc::Receiver<WorkerCommand>,
}

struct ScriptedSpawner {
    spawned: mpsc::Sender<ScriptedWorker>,
    command_capacity: usize,
}

impl WorkerSpawner for ScriptedSpawner {
    fn spawn(
        &self,
        worker: WorkerId,
        _: GracePeriods,
        events: mpsc::Sender<WorkerEvent>,
    ) -> mpsc::Sender<WorkerCommand> {
        let (sender, commands) = mpsc::channel(self.command_capacity);
        let scripted = ScriptedWorker { id: worker, events, commands };
        self.spawned.try_send(scripted).expect("a test takes its workers");
        sender
    }
}

/// Starts a pool of this many slots.
pub(crate) fn pool_of(processes: u32) -> ScriptedPool {
    pool_with(PoolConfig::new(NonZeroU32::new(processes).unwrap()))
}

/// Starts a pool with these settings.
pub(crate) fn pool_with(config: PoolConfig) -> ScriptedPool {
    pool_with_room(config, COMMAND_CAPACITY)
}

/// Starts a pool with these settings, and room for this many commands that a worker has not heard.
pub(crate) fn pool_with_room(config: PoolConfig, command_capacity: usize) -> ScriptedPool {
    let (sender, spawned) = mpsc::channel(64);
    let scripted = ScriptedSpawner { spawned: sender, command_capacity };
    let (handle, task) = PoolHandle::start(config, Arc::new(scripted));
    ScriptedPool { handle, task, spawned }
}

/// Starts a pool that somebody watches.
pub(crate) fn pool_observed(config: PoolConfig, observer: Arc<dyn PoolObserver>) -> ScriptedPool {
    let (sender, spawned) = mpsc::channel(64);
    let scripted = Arc::new(ScriptedSpawner { spawned: sender, command_capacity: COMMAND_CAPACITY });
    let (handle, task) = PoolHandle::start_observed(config, scripted, Some(observer), JobNumbers::default());
    ScriptedPool { handle, task, spawned }
}

impl ScriptedPool {
    /// Returns the next worker that the pool starts.
    pub(crate) async fn next_worker(&mut self) -> ScriptedWorker {
        self.spawned.recv().await.expect("the pool runs")
    }

    /// Tells whether the pool has started no worker that the test does not know, after everybody had their turn.
    pub(crate) async fn has_no_new_worker(&mut self) -> bool {
        settle().await;
        self.spawned.is_empty()
    }

    /// Returns the next worker that the pool starts, ready.
    pub(crate) async fn next_ready_worker(&mut self) -> ScriptedWorker {
        let worker = self.next_worker().await;
        worker.become_ready().await;
        worker
    }
}

impl ScriptedWorker {
    pub(crate) async fn say(&self, kind: WorkerEventKind) {
        self.events.send(WorkerEvent { worker: self.id, kind }).await.expect("the driver runs");
    }

    /// Says Hello with the function `f` and the idempotent function `again`, and Ready.
    pub(crate) async fn become_ready(&self) {
        self.become_ready_with(&["f", "again"]).await;
    }

    /// Says Hello with these functions, and Ready.
    pub(crate) async fn become_ready_with(&self, functions: &[&str]) {
        self.say_hello(functions).await;
        self.say(WorkerEventKind::Ready).await;
    }

    /// Says Hello with these functions. Their docs name the worker; `again` is idempotent.
    pub(crate) async fn say_hello(&self, functions: &[&str]) {
        let functions = functions.iter().map(|&name| FunctionInfo {
            name: name.to_owned(),
            signature: String::new(),
            doc: format!("of worker {}", self.id.generation),
            example: String::new(),
            idempotent: name == "again",
            takes_common: true,
        });
        let functions = functions.collect();
        self.say(WorkerEventKind::Hello { pid: 1000, sdk: "scripted".to_owned(), functions }).await;
    }

    /// Returns the next command.
    pub(crate) async fn next_command(&mut self) -> WorkerCommand {
        self.commands.recv().await.expect("the driver holds on to its workers")
    }

    /// Tells whether it will be told nothing more.
    pub(crate) async fn is_given_up(&mut self) -> bool {
        self.commands.recv().await.is_none()
    }

    /// Returns the next command if there is one.
    pub(crate) fn try_next_command(&mut self) -> Result<WorkerCommand, mpsc::error::TryRecvError> {
        self.commands.try_recv()
    }

    /// Returns the next command, which must be a chunk.
    pub(crate) async fn next_chunk(&mut self) -> ChunkRun {
        match self.next_command().await {
            WorkerCommand::Run(run) => run,
            other => panic!("expected a chunk, not {other:?}"),
        }
    }

    /// Tells whether there is no command for it now, after everybody else had their turn.
    pub(crate) async fn has_no_command(&mut self) -> bool {
        settle().await;
        self.commands.try_recv().is_err()
    }

    /// Finishes a whole chunk; each result is its item with a `!`.
    pub(crate) async fn finish(&self, chunk: &ChunkRun) {
        let items = ItemSlab::parse(chunk.kind, chunk.parts.concat().into()).unwrap();
        let mut results = SlabBuilder::new();
        for item in 0..items.len() {
            results.push(&[&items.item(item)[..], b"!"].concat());
        }
        self.send_results(chunk.chunk, 0, results.take(), Vec::new()).await;
    }

    /// Sends results that start at an offset of a chunk.
    pub(crate) async fn send_results(
        &self,
        chunk: ChunkId,
        first: u32,
        items: Bytes,
        failures: Vec<(u32, ItemFailure)>,
    ) {
        let count = ItemSlab::count(ItemKind::Blobs, &items).unwrap();
        let count = u32::try_from(count).unwrap();
        let busy = Duration::from_millis(1) * count;
        self.say(WorkerEventKind::Results(ChunkResults { chunk, first, count, failures, busy, items })).await;
    }

    /// The time of the first item of the chunk is up, and this is its stack.
    pub(crate) async fn expires(&self, chunk: &ChunkRun, stack: &str) {
        self.say(WorkerEventKind::ItemExpired { chunk: chunk.chunk, offset: 0, stack: stack.to_owned() }).await;
    }

    /// It got SIGTERM for an item.
    pub(crate) async fn stops(&self, reason: StopReason) {
        self.say(WorkerEventKind::Stopping { reason }).await;
    }

    /// Gives a chunk back from an offset on.
    pub(crate) async fn give_back(&self, chunk: ChunkId, first_not_begun: u32) {
        self.say(WorkerEventKind::Recalled { chunk, first_not_begun }).await;
    }

    /// Dies by SIGKILL.
    pub(crate) async fn die(self, running: Option<(ChunkId, u32)>) {
        let stderr_tail = "last words".to_owned();
        self.say(WorkerEventKind::Exited {
            exit: WorkerExit::Signal(9),
            usage: ExitUsage::default(),
            running,
            stderr_tail,
        })
        .await;
    }

    /// Exits with code 0, as a worker does that is asked to.
    pub(crate) async fn leave(self) {
        let exited = WorkerEventKind::Exited {
            exit: WorkerExit::Code(0),
            usage: ExitUsage::default(),
            running: None,
            stderr_tail: String::new(),
        };
        self.say(exited).await;
    }
}

/// Lets every other task run until all of them wait.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// A call of this function with everything at its default.
pub(crate) fn call(function: &str) -> Call {
    Call::new(function)
}

/// The blobs `0`, `1`, … of a range.
pub(crate) fn items(range: std::ops::Range<u32>) -> ItemSlab {
    ItemSlab::parse(ItemKind::Blobs, blobs(&range.map(|item| item.to_string()).collect::<Vec<_>>())).unwrap()
}

/// These blobs, encoded.
pub(crate) fn blobs(items: &[String]) -> Bytes {
    let mut list = SlabBuilder::new();
    for item in items {
        list.push(item.as_bytes());
    }
    list.take()
}

/// The texts in encoded lists of blobs.
pub(crate) fn texts(parts: &[Bytes]) -> Vec<String> {
    let list = ItemSlab::parse(ItemKind::Blobs, parts.concat().into()).unwrap();
    (0..list.len()).map(|item| String::from_utf8(list.item(item).to_vec()).unwrap()).collect()
}
