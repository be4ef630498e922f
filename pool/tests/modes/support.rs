//! A pool of real workers that keeps accounts of what becomes of its items.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use procpool_items::value::{NonFinite, list_from_bytes, list_to_bytes};
use procpool_items::{ItemKind, ItemSlab};
use procpool_pool::supervisor::{ProcessSpawner, ServerTag, SpawnConfig};
use procpool_pool::{
    Call, CallError, CallOptions, CallStyle, ChunkStart, ItemError, ItemFailure, JobNumbers, ObserverEvent, OnError,
    PoolConfig, PoolHandle, PoolObserver, PoolSnapshot, PoolTask, Readiness, TraceContext, WorkerState,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

/// No wait is longer. Nothing depends on its length but how fast a failure shows.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// How long what hangs may go on at each of the two steps of its end.
pub(crate) const GRACE: Duration = Duration::from_millis(200);
/// As much is accepted at a time; [`TestPool::assert_whole_again`] asks for all of it.
const MAX_QUEUED_ITEMS: u32 = 2000;

/// What became of items and workers, as the pool tells its observer.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    pub(crate) succeeded: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) workers_started: AtomicU64,
    /// Workers that nobody asked to stop.
    pub(crate) workers_lost: AtomicU64,
}

impl PoolObserver for Accounts {
    fn observe(&self, event: &ObserverEvent<'_>) {
        let add = |counter: &AtomicU64, count| {
            counter.fetch_add(count, Ordering::Relaxed);
        };
        match event {
            ObserverEvent::ItemsSucceeded { count, .. } => add(&self.succeeded, *count),
            ObserverEvent::ItemFailed { .. } => add(&self.failed, 1),
            ObserverEvent::ItemsDropped { count, .. } => add(&self.dropped, *count),
            ObserverEvent::WorkerStarted => add(&self.workers_started, 1),
            ObserverEvent::WorkerExited { stop_reason: None, .. } => add(&self.workers_lost, 1),
            ObserverEvent::WorkerExited { .. } | ObserverEvent::JobStarted { .. } | ObserverEvent::ChunkEnded(_) => {}
        }
    }

    fn chunk_started(&self, _: &ChunkStart<'_>) -> Option<TraceContext> {
        None
    }
}

impl Accounts {
    pub(crate) fn of(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// A pool and everything that belongs to it.
pub(crate) struct TestPool {
    pub(crate) handle: PoolHandle,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) directory: TempDir,
    slots: u32,
    task: PoolTask,
    spawner: Arc<ProcessSpawner>,
    /// How many items the pool was given.
    sent: AtomicU64,
}

/// The outcome of a call that collects errors.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// `null` in the place of what failed.
    pub(crate) results: Vec<Value>,
    pub(crate) errors: Vec<ItemError>,
}

impl Outcome {
    /// Returns the one failure there is, and the index of its item.
    #[track_caller]
    pub(crate) fn only_failure(&self) -> (u64, &ItemFailure) {
        let [error] = &self.errors[..] else { panic!("one item fails, not {:?}", self.errors) };
        (error.index, &error.failure)
    }
}

impl TestPool {
    /// Starts a pool of so many workers with a program of `test-workers`, and waits until all are ready.
    pub(crate) async fn start(slots: u32, program: &str) -> Self {
        let pool = Self::start_with(slots, program, |_, _| {});
        pool.all_are_ready().await;
        pool
    }

    /// Starts a pool whose first worker has the vice of its program, and all others have none.
    pub(crate) async fn start_with_one_bad(slots: u32, program: &str) -> Self {
        let pool = Self::start_with(slots, program, |_, spawn| {
            let token = spawn.working_directory.clone().unwrap().join("vice");
            spawn.variables.push((procpool_test_workers::ONCE.into(), token.into()));
        });
        pool.all_are_ready().await;
        pool
    }

    /// Starts a pool after a change to how. Its directory is where its workers are started.
    pub(crate) fn start_with(
        slots: u32,
        program: &str,
        change: impl FnOnce(&mut PoolConfig, &mut SpawnConfig),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut spawn = SpawnConfig::new(procpool_test_workers::path(program), std::env::vars_os().collect());
        spawn.working_directory = Some(directory.path().to_owned());
        let mut config = PoolConfig {
            max_queued_items: MAX_QUEUED_ITEMS,
            cancel_grace_period: GRACE,
            kill_grace_period: GRACE,
            ..PoolConfig::new(NonZeroU32::new(slots).unwrap())
        };
        change(&mut config, &mut spawn);
        let spawner = Arc::new(ProcessSpawner::new(spawn).unwrap());
        let accounts = Arc::new(Accounts::default());
        let observer = Arc::clone(&accounts) as Arc<dyn PoolObserver>;
        let (handle, task) = PoolHandle::start_observed(config, spawner.clone(), Some(observer), JobNumbers::default());
        Self { handle, accounts, directory, slots, task, spawner, sent: AtomicU64::new(0) }
    }

    /// Returns the path of a file in the pool's directory, as a worker function takes it.
    pub(crate) fn file(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) async fn snapshot(&self) -> PoolSnapshot {
        self.handle.snapshot().await.unwrap()
    }

    /// Waits until the pool is so.
    pub(crate) async fn until(&self, what: &str, mut is_so: impl FnMut(&PoolSnapshot) -> bool) -> PoolSnapshot {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let snapshot = self.snapshot().await;
            if is_so(&snapshot) {
                return snapshot;
            }
            assert!(Instant::now() < deadline, "waited in vain until {what}: {snapshot:#?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) async fn all_are_ready(&self) -> PoolSnapshot {
        let is_idle = |pool: &PoolSnapshot| pool.workers.iter().filter(|w| w.state == WorkerState::Ready).count();
        self.until("all workers are ready", |pool| is_idle(pool) == self.slots as usize).await
    }

    /// Waits until a worker runs something; returns its process id.
    pub(crate) async fn busy_worker(&self) -> u32 {
        let pool = self.until("a worker is busy", |pool| busy(pool).is_some()).await;
        busy(&pool).unwrap()
    }

    /// Calls a function with these items and collects what fails.
    pub(crate) async fn map(&self, function: &str, items: &[Value]) -> Outcome {
        self.call(call(function), items).await
    }

    pub(crate) async fn call(&self, call: Call, items: &[Value]) -> Outcome {
        self.try_call(call, items).await.unwrap()
    }

    /// As [`TestPool::call`], but may be refused; then nothing of it counts.
    pub(crate) async fn try_call(&self, call: Call, items: &[Value]) -> Result<Outcome, CallError> {
        let list = self.list(items);
        let output = tokio::time::timeout(PATIENCE, self.handle.map(call, list)).await.expect("no call hangs");
        let output = output.inspect_err(|_| {
            self.sent.fetch_sub(items.len() as u64, Ordering::Relaxed);
        })?;
        let results = list_from_bytes(&output.parts.concat()).unwrap();
        assert_eq!(results.len(), items.len(), "every item has its place");
        Ok(Outcome { results, errors: output.errors })
    }

    /// Encodes items that will be sent.
    pub(crate) fn list(&self, items: &[Value]) -> ItemSlab {
        self.sent.fetch_add(items.len() as u64, Ordering::Relaxed);
        ItemSlab::parse(ItemKind::Values, list_to_bytes(items, NonFinite::Error).unwrap()).unwrap()
    }

    /// Checks that nothing is left of what went wrong: all slots work, and as many items as went in have come out. Then ends
    /// the pool, of which no process is left. How long that takes says more of the machine than of the pool: `chaos`
    /// measures it.
    pub(crate) async fn assert_whole_again(self) {
        let is_at_rest = |pool: &PoolSnapshot| {
            let Accounts { succeeded, failed, dropped, .. } = &*self.accounts;
            let num_ended: u64 = [succeeded, failed, dropped].map(Accounts::of).iter().sum();
            let pool = &pool.pool;
            (pool.num_jobs, pool.num_queued_items, pool.num_running_items) == (0, 0, 0)
                && pool.readiness == Readiness::Ready
                && num_ended == self.sent.load(Ordering::Relaxed)
        };
        self.until("every item has its outcome", is_at_rest).await;
        let pool = self.all_are_ready().await;
        assert_eq!(pool.workers.len(), self.slots as usize);
        // Its permits are back: it takes as much as a new one, and all slots work.
        let items: Vec<Value> = (0..MAX_QUEUED_ITEMS).map(Value::from).collect();
        let Outcome { results, errors } = self.map("echo", &items).await;
        assert_eq!((results, errors.len()), (items, 0));
        self.end().await;
    }

    /// Ends the pool, and checks that no process is left of it.
    pub(crate) async fn end(self) {
        self.handle.drain();
        tokio::time::timeout(PATIENCE, self.task.join()).await.expect("the pool ends");
        tokio::time::timeout(PATIENCE, self.spawner.closed()).await.expect("and nothing is left of it");
        let left = children_of(self.spawner.server_tag());
        assert!(left.is_empty(), "processes are left: {left:?}");
    }
}

fn busy(pool: &PoolSnapshot) -> Option<u32> {
    pool.workers.iter().find(|worker| worker.state == WorkerState::Busy).map(|worker| worker.pid)
}

/// Returns a call of a function that collects what fails.
pub(crate) fn call(function: &str) -> Call {
    Call { options: CallOptions { on_error: Some(OnError::Collect), ..CallOptions::default() }, ..Call::new(function) }
}

/// Returns a call of a function whose items are lists of arguments, and go to a worker so many at a time.
pub(crate) fn star_call(function: &str, chunk_size: u32) -> Call {
    let mut call = Call { style: CallStyle::Star, ..call(function) };
    call.options.chunk_size = NonZeroU32::new(chunk_size);
    call
}

/// Returns the children of this process that this server has started, dead ones included. Other tests have theirs.
fn children_of(server: ServerTag) -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    let children = lists.flat_map(|list| list.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>());
    // The high bits of this limit are the server's tag.
    let tag = |pid: &str| -> Option<u64> {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max file locks"))?;
        Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? >> 24)
    };
    let own: u64 = server.to_string().parse().unwrap();
    children.filter(|pid| tag(pid) == Some(own)).collect()
}

/// Returns a program that a shell runs, for [`TestPool::start_with`].
pub(crate) fn shell(script: &str, program: &str) -> (OsString, Vec<OsString>) {
    let program: PathBuf = procpool_test_workers::path(program);
    ("sh".into(), vec!["-c".into(), script.into(), program.into()])
}
