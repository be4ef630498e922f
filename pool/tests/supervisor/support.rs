//! A worker under test, and barriers.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use procpool_items::{ItemKind, SlabBuilder};
use procpool_pool::supervisor::{
    ChunkResults, ChunkRun, ProcessSpawner, SpawnConfig, WorkerCommand, WorkerEvent, WorkerEventKind, WorkerSpawner,
};
use procpool_pool::{CallStyle, ExitUsage, TraceContext, WorkerExit};
use procpool_scheduler::{ChunkId, GracePeriods, SlotId, WorkerId};
use rustix::process::Pid;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::roles;

/// No wait in these tests is longer. Nothing depends on its length but how fast a failure shows.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
pub(crate) const GRACE: GracePeriods =
    GracePeriods { cancel: Duration::from_millis(100), kill: Duration::from_secs(2) };

/// Generations are unique in this process, so that log lines can be told apart.
static NEXT_GENERATION: AtomicU64 = AtomicU64::new(1);

/// One worker of a spawner of its own, and the directory where it leaves its marks.
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) spawner: ProcessSpawner,
    pub(crate) directory: TempDir,
    /// `None` once dropped.
    pub(crate) commands: Option<mpsc::Sender<WorkerCommand>>,
    pub(crate) events: mpsc::Receiver<WorkerEvent>,
}

/// What the last event of a worker says.
#[derive(Debug)]
pub(crate) struct Exited {
    pub(crate) exit: WorkerExit,
    pub(crate) usage: ExitUsage,
    pub(crate) running: Option<(ChunkId, u32)>,
    pub(crate) stderr_tail: String,
}

impl Worker {
    /// Starts this program in a role.
    pub(crate) fn in_role(role: &str) -> Self {
        Self::start(role, 64, |_| {})
    }

    /// Starts a shell with a script; `$DIR` is the worker's directory.
    pub(crate) fn shell(script: &str) -> Self {
        Self::start("", 64, |config| {
            config.program = "sh".into();
            config.args = vec!["-c".into(), script.into()];
        })
    }

    /// Starts this program in a role, after a change to how, with room for this many events.
    pub(crate) fn start(role: &str, event_capacity: usize, change: impl FnOnce(&mut SpawnConfig)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(role, directory.path());
        change(&mut config);
        let spawner = ProcessSpawner::new(config).unwrap();
        let id = WorkerId { slot: SlotId(3), generation: NEXT_GENERATION.fetch_add(1, Ordering::Relaxed) };
        let (sender, events) = mpsc::channel(event_capacity);
        let commands = spawner.spawn(id, GRACE, sender);
        Self { id, spawner, directory, commands: Some(commands), events }
    }

    pub(crate) async fn command(&self, command: WorkerCommand) {
        self.commands.as_ref().unwrap().send(command).await.unwrap();
    }

    /// Gives the worker blobs to work on.
    pub(crate) async fn run(&self, chunk: u64, items: &[&[u8]]) {
        self.command(WorkerCommand::Run(chunk_run(chunk, items))).await;
    }

    pub(crate) async fn next(&mut self) -> WorkerEventKind {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event in time").unwrap();
        assert_eq!(event.worker, self.id);
        event.kind
    }

    /// Waits until its process was started; returns the process id.
    pub(crate) async fn started(&mut self) -> u32 {
        match self.next().await {
            WorkerEventKind::Started { pid } => pid,
            other => panic!("{other:?} instead of the start"),
        }
    }

    /// Waits for its start, Hello and Ready; returns the process id.
    pub(crate) async fn ready(&mut self) -> u32 {
        self.started().await;
        let WorkerEventKind::Hello { pid, .. } = self.next().await else { panic!("no hello") };
        let event = self.next().await;
        assert!(matches!(event, WorkerEventKind::Ready), "{event:?}");
        pid
    }

    pub(crate) async fn results(&mut self) -> ChunkResults {
        match self.next().await {
            WorkerEventKind::Results(results) => results,
            other => panic!("{other:?} instead of results"),
        }
    }

    /// Waits for the last event, and for everything that looked after the worker; checks that no process of its group
    /// is left.
    pub(crate) async fn exited(mut self) -> Exited {
        let mut event = self.next().await;
        if matches!(event, WorkerEventKind::Started { .. }) {
            event = self.next().await;
        }
        let exited = match event {
            WorkerEventKind::Exited { exit, usage, running, stderr_tail } => {
                Exited { exit, usage, running, stderr_tail }
            }
            other => panic!("{other:?} instead of the end"),
        };
        let more = tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("the end of the events");
        assert!(more.is_none(), "{more:?} after the last event");
        tokio::time::timeout(PATIENCE, self.spawner.closed()).await.expect("the spawner closes");
        if let Ok(pid) = std::fs::read_to_string(self.file("pid")) {
            wait_until("the process group is gone", || is_group_gone(pid.trim().parse().unwrap()));
        }
        exited
    }

    /// As [`Worker::exited`], for a worker that may have printed and said anything. Returns its directory.
    pub(crate) async fn exited_and_gone(mut self) -> TempDir {
        while !matches!(self.next().await, WorkerEventKind::Exited { .. }) {}
        tokio::time::timeout(PATIENCE, self.spawner.closed()).await.expect("the spawner closes");
        self.directory
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits until the worker has made this file, and reads it.
    pub(crate) async fn mark(&self, name: &str) -> String {
        let file = self.file(name);
        // The session runs on this thread.
        tokio::task::spawn_blocking(move || wait_for_file(&file)).await.unwrap()
    }
}

/// How this program is started in a role.
pub(crate) fn config(role: &str, directory: &Path) -> SpawnConfig {
    let environment = std::env::vars_os().collect();
    let mut config = SpawnConfig::new(std::env::current_exe().unwrap(), environment);
    config.args = ["role", "--exact", "--ignored", "--nocapture", "--test-threads=1"].map(OsString::from).to_vec();
    config.variables = vec![(roles::ROLE.into(), role.into()), (roles::DIRECTORY.into(), directory.into())];
    config
}

pub(crate) fn chunk_run(chunk: u64, items: &[&[u8]]) -> ChunkRun {
    ChunkRun {
        chunk: ChunkId(chunk),
        job: 1_000 + chunk,
        function: Arc::from("f"),
        kind: ItemKind::Blobs,
        content_type: Arc::from(""),
        style: CallStyle::Map,
        first_index: 500,
        count: u32::try_from(items.len()).unwrap(),
        attempt: 1,
        time_limit: None,
        trace: Arc::new(TraceContext::default()),
        common: None,
        parts: items.iter().map(|item| blobs(&[item])).collect(),
    }
}

/// Encodes a list of blobs.
pub(crate) fn blobs(items: &[&[u8]]) -> Bytes {
    let mut slab = SlabBuilder::new();
    for item in items {
        slab.push(item);
    }
    slab.take()
}

/// Waits until something else has brought this about.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[track_caller]
pub(crate) fn wait_for_file(path: &Path) -> String {
    wait_until(&format!("{} is there", path.display()), || path.exists());
    std::fs::read_to_string(path).unwrap()
}

/// Stops a process. The signal's sender goes on before all of its threads stand.
#[track_caller]
pub(crate) fn stop(number: u32) {
    rustix::process::kill_process(pid(number), rustix::process::Signal::STOP).unwrap();
    wait_until_stopped(number);
}

#[track_caller]
pub(crate) fn wait_until_stopped(number: u32) {
    let stands = |thread: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('T')
    };
    wait_until("all threads stand still", || {
        std::fs::read_dir(format!("/proc/{number}/task")).unwrap().all(|thread| stands(thread.unwrap()))
    });
}

pub(crate) fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

/// Tells whether no process has this number, not even a dead one that waits to be reaped.
pub(crate) fn is_gone(number: u32) -> bool {
    rustix::process::test_kill_process(pid(number)) == Err(rustix::io::Errno::SRCH)
}

pub(crate) fn is_group_gone(leader: u32) -> bool {
    rustix::process::test_kill_process_group(pid(leader)) == Err(rustix::io::Errno::SRCH)
}
