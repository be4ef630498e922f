//! [`ProcessSpawner`]: worker processes for real.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use futures_util::FutureExt as _;
use procpool_ipc::page::PageReader;
use procpool_ipc::proto;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_scheduler::{GracePeriods, WorkerId};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Resource, Rlimit};
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::config::{self, LimitedResource, MemoryLimits, SpawnConfig, WorkerOutput};
use super::interface::{COMMAND_CAPACITY, WorkerCommand, WorkerEvent, WorkerEventKind, WorkerSpawner};
use super::monitor::{self, Monitor};
use super::orphans::{LiveWorker, LiveWorkers, ServerTag, Subreaper, WorkerTag};
use super::output::{Output, Printer};
use super::pre_exec::CHANNEL_FD;
use super::process_group::{Process as _, WorkerProcess};
use super::session::{Session, Started};
use super::spawn;
use super::thread::WorkThread;
use crate::error::{ExitUsage, WorkerExit};

/// The most that `oom_score_adj` can be.
const MAX_OOM_SCORE: i32 = 1_000;

/// Starts worker processes, each with a task that supervises it.
///
/// Whoever makes one waits for [`ProcessSpawner::closed`] before the runtime ends. Should the runtime end first, the
/// workers are killed. A process with several pools makes one, and from it [another](Self::another) for each pool.
#[derive(Debug)]
pub struct ProcessSpawner {
    shared: Arc<Shared>,
    host: Arc<Host>,
}

/// What the spawners of a process have in common, and the tasks that supervise their workers.
#[derive(Debug)]
struct Host {
    common: Common,
    runtime: Handle,
    sessions: TaskTracker,
    /// The subreaper, if there is one, and the monitor: they work for as long as there are sessions.
    background: TaskTracker,
    stop_background: CancellationToken,
    /// Empty once they have been joined.
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// What prints what workers print, and its thread. `None` while no pool wants it.
    printer: Mutex<Option<(Printer, JoinHandle<()>)>>,
}

/// The part of that which is at work for as long as a worker lives.
#[derive(Debug, Clone)]
struct Common {
    server: ServerTag,
    spawn_thread: WorkThread,
    live: LiveWorkers,
    monitor: Monitor,
}

/// What every worker of a pool is started with.
#[derive(Debug)]
struct Shared {
    config: SpawnConfig,
    environment: Vec<(OsString, OsString)>,
    oom_score_adj: String,
    rlimits: Vec<(Resource, Rlimit)>,
    common: Common,
    printer: Option<Printer>,
}

impl ProcessSpawner {
    /// Starts the threads that will start workers and look at them; no worker yet. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    ///
    /// If the system has no thread for it.
    pub fn new(config: SpawnConfig) -> io::Result<Self> {
        let (spawn_thread, spawning) = WorkThread::start(spawn::THREAD_NAME)?;
        let (look_thread, looking) = WorkThread::start(monitor::THREAD_NAME)?;
        let (server, monitor) = (ServerTag::new(), Monitor::new(look_thread));
        let common = Common { server, spawn_thread, live: LiveWorkers::new(server), monitor };
        let host = Host {
            common,
            runtime: Handle::current(),
            sessions: TaskTracker::new(),
            background: TaskTracker::new(),
            stop_background: CancellationToken::new(),
            threads: Mutex::new(vec![spawning, looking]),
            printer: Mutex::new(None),
        };
        let watches = host.common.monitor.clone().run(host.stop_background.clone());
        host.background.spawn_on(watches, &host.runtime);
        Ok(Self::on(Arc::new(host), config))
    }

    /// Returns a spawner for another pool of this process. Both start workers from the same thread, share the care for
    /// orphans, and are [closed](Self::closed) together.
    #[must_use]
    pub fn another(&self, config: SpawnConfig) -> Self {
        Self::on(Arc::clone(&self.host), config)
    }

    fn on(host: Arc<Host>, config: SpawnConfig) -> Self {
        let shared = Shared {
            environment: config.worker_environment(),
            oom_score_adj: worker_oom_score(config.oom_score_raise).to_string(),
            rlimits: worker_rlimits(&config),
            common: host.common.clone(),
            printer: if config.output == WorkerOutput::Inherit { host.printer() } else { None },
            config,
        };
        Self { shared: Arc::new(shared), host }
    }

    /// Returns what [`kill_orphans`](super::kill_orphans) knows this server by.
    pub fn server_tag(&self) -> ServerTag {
        self.host.common.server
    }

    /// Makes this process the parent of what its dead workers leave behind, kills and reaps it. For programs that are a
    /// server and nothing else: *every* dead child of this process that is no worker is reaped from now on, so nothing
    /// else in it may start processes, and only one spawner in it may do this, for all pools.
    ///
    /// Without it, processes that leave their worker's process group outlive it.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn adopt_orphans(&self) -> io::Result<()> {
        Subreaper::become_subreaper()?;
        let Common { spawn_thread: thread, live, .. } = self.host.common.clone();
        let subreaper = Subreaper { thread, live };
        self.host.background.spawn_on(subreaper.run(self.host.stop_background.clone()), &self.host.runtime);
        Ok(())
    }

    /// Waits until every worker of every pool has exited and everything that supervises them has ended. It ends none of them; that
    /// is for whoever has the command senders.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub async fn closed(&self) {
        let host = &self.host;
        host.sessions.close();
        host.sessions.wait().await;
        host.stop_background.cancel();
        host.background.close();
        host.background.wait().await;
        host.common.spawn_thread.stop().await;
        host.common.monitor.thread().stop().await;
        let printer = host.printer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((printer, thread)) = printer {
            if printer.close().await {
                host.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
            } else {
                tracing::warn!("the last lines of workers are lost: nobody reads what this process prints");
            }
        }
        let threads = std::mem::take(&mut *host.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if host.runtime.spawn_blocking(move || thread.join().is_err()).await.unwrap_or(true) {
                tracing::error!("a thread that starts workers, or looks at them, has panicked");
            }
        }
    }
}

impl Host {
    /// Returns what prints for all pools. `None` if the system has no thread for it: then lines are logged.
    fn printer(&self) -> Option<Printer> {
        let mut printer = self.printer.lock().unwrap_or_else(PoisonError::into_inner);
        if printer.is_none() {
            let started = Printer::start();
            *printer = started
                .inspect_err(|error| tracing::warn!(%error, "cannot print what workers print; it is logged"))
                .ok();
        }
        printer.as_ref().map(|(printer, _)| printer.clone())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The threads end when the last session has, and these. They cannot be joined here: sessions may be alive.
        self.stop_background.cancel();
    }
}

impl WorkerSpawner for ProcessSpawner {
    fn spawn(
        &self,
        worker: WorkerId,
        grace: GracePeriods,
        events: mpsc::Sender<WorkerEvent>,
    ) -> mpsc::Sender<WorkerCommand> {
        let (sender, commands) = mpsc::channel(COMMAND_CAPACITY);
        let session = supervise(self.shared.clone(), (worker, grace), commands, events).in_current_span();
        self.host.sessions.spawn_on(session, &self.host.runtime);
        sender
    }

    fn max_frame_bytes(&self) -> u32 {
        self.shared.config.max_frame_bytes
    }

    fn memory_limits(&self) -> MemoryLimits {
        self.shared.config.memory
    }
}

/// Supervises one worker from its start to its reaping.
async fn supervise(
    shared: Arc<Shared>,
    (worker, grace): (WorkerId, GracePeriods),
    commands: mpsc::Receiver<WorkerCommand>,
    events: mpsc::Sender<WorkerEvent>,
) {
    let live = shared.common.live.add();
    // A panic must cost one worker, and not the slot: that hears of an end in any case.
    let started = AssertUnwindSafe(shared.start(worker, &live)).catch_unwind().await;
    match started.unwrap_or_else(|_| Err(io::Error::other("the server panicked, which is a bug in it"))) {
        Ok(started) => Session::new(started, grace, events).run(commands).await,
        Err(error) => {
            let (reason, by_shortage) = (shared.describe(&error), is_shortage(&error));
            let kind = WorkerEventKind::Exited {
                exit: WorkerExit::SpawnFailed { reason, by_shortage },
                usage: ExitUsage::default(),
                running: None,
                stderr_tail: String::new(),
            };
            // If nobody listens, the driver is gone.
            let _ = events.send(WorkerEvent { worker, kind }).await;
        }
    }
    drop(live);
}

impl Shared {
    async fn start(&self, worker: WorkerId, live: &LiveWorker) -> io::Result<Started<WorkerProcess>> {
        let (stream, channel) = UnixStream::pair()?;
        stream.set_nonblocking(true)?;
        let (page, dumps) = self.send_welcome(&stream, worker)?;
        let (stdout, stdout_writer) = io::pipe()?;
        let (stderr, stderr_writer) = io::pipe()?;
        let output = Output::new(stdout.into(), stderr.into(), self.printer.clone())?;
        // Whatever can fail comes before the fork: from then on there is a process to reap.
        let stream = tokio::net::UnixStream::from_std(stream)?;
        let dumps = pipe::Receiver::from_owned_fd(dumps)?;

        let tag = live.tag();
        let command = self.command(worker, tag, stdout_writer.into(), stderr_writer.into());
        let (oom_score_adj, rlimits) = (self.oom_score_adj.clone(), self.rlimits.clone());
        let look_thread = self.common.monitor.thread().clone();
        let start = spawn::Start { command, channel, tag, oom_score_adj, rlimits, look_thread };
        let live = self.common.live.clone();
        let runtime = Handle::current();
        let process = self.common.spawn_thread.run(move || {
            let _entered = runtime.enter();
            let process = spawn::start_process(start)?;
            live.set_pid(tag, process.id());
            io::Result::Ok(process)
        });
        let process = process.await.ok_or_else(|| io::Error::other("the pool is closed, or has a bug"))??;
        tracing::debug!(worker = worker.generation, slot = worker.slot.0, pid = process.pid(), "worker started");
        let SpawnConfig { max_frame_bytes, memory, allow_pickle, .. } = self.config;
        let watch = Some(self.common.monitor.watch(process.pid(), memory.exist()));
        Ok(Started { worker, process, stream, page, dumps, output, max_frame_bytes, memory, allow_pickle, watch })
    }

    /// Sends the first frame, before there is anybody to read it: the socket's buffer holds it.
    fn send_welcome(&self, stream: &UnixStream, worker: WorkerId) -> io::Result<(Option<PageReader>, OwnedFd)> {
        let welcome = procpool_ipc::encode_server_frame(ServerFrame::Welcome(proto::Welcome {
            protocol_version: procpool_ipc::PROTOCOL_VERSION,
            worker_id: worker.generation,
            slot: worker.slot.0,
            max_frame_bytes: self.config.max_frame_bytes,
            journal_bytes: self.config.journal_bytes,
            dump_pipe: true,
        }));
        // Its writer must never wait for us, nor we for it.
        let (dumps, dump_writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let (page, sent) = if self.config.journal_bytes == 0 {
            (None, procpool_ipc::send_with_fds(stream, &welcome, &[dump_writer.as_fd()])?)
        } else {
            let (page, memory) = PageReader::create(self.config.journal_bytes)?;
            let fds = [memory.as_fd(), dump_writer.as_fd()];
            (Some(page), procpool_ipc::send_with_fds(stream, &welcome, &fds)?)
        };
        if sent == welcome.len() { Ok((page, dumps)) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    #[expect(clippy::disallowed_methods, reason = "this is where processes are spawned")]
    fn command(&self, worker: WorkerId, tag: WorkerTag, stdout: OwnedFd, stderr: OwnedFd) -> Command {
        let mut environment = self.environment.clone();
        let [fd, slot, id] = [CHANNEL_FD.to_string(), worker.slot.to_string(), worker.generation.to_string()];
        let names = ["PROCPOOL_FD", "PROCPOOL_SLOT", "PROCPOOL_WORKER_ID"];
        for (name, value) in names.into_iter().zip([fd, slot, id].map(OsString::from)).chain([tag.variable()]) {
            config::set(&mut environment, OsStr::new(name), &value);
        }

        let mut command = Command::new(&self.config.program);
        command.args(&self.config.args).env_clear().envs(environment);
        command.stdin(Stdio::null()).stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
        if let Some(directory) = &self.config.working_directory {
            command.current_dir(directory);
        }
        command
    }

    fn describe(&self, error: &io::Error) -> String {
        let program = self.config.program.display();
        match &self.config.working_directory {
            Some(directory) => format!("cannot start {program} in {}: {error}", directory.display()),
            None => format!("cannot start {program}: {error}"),
        }
    }
}

/// Returns whether the kernel lacks something for a new process that it will have again: descriptors, memory, processes.
fn is_shortage(error: &io::Error) -> bool {
    let missing = [Errno::MFILE, Errno::NFILE, Errno::AGAIN, Errno::NOMEM, Errno::NOBUFS, Errno::NOSPC];
    Errno::from_io_error(error).is_some_and(|error| missing.contains(&error))
}

/// Returns what the kernel is to limit for workers. More than this process may have itself is refused to most users, and
/// then no worker would start.
fn worker_rlimits(config: &SpawnConfig) -> Vec<(Resource, Rlimit)> {
    let wanted = config.rlimits.iter().map(|&(resource, wanted)| {
        let resource = match resource {
            LimitedResource::AddressSpace => Resource::As,
            LimitedResource::Core => Resource::Core,
            LimitedResource::Data => Resource::Data,
            LimitedResource::FileSize => Resource::Fsize,
            LimitedResource::OpenFiles => Resource::Nofile,
        };
        let most = rustix::process::getrlimit(resource).maximum;
        let limit = most.map_or(wanted, |most| most.min(wanted));
        if limit < wanted {
            tracing::warn!(
                ?resource,
                wanted,
                limit,
                "workers get a lower limit: this process may not set the one wanted"
            );
        }
        (resource, Rlimit { current: Some(limit), maximum: Some(limit) })
    });
    let wanted: Vec<_> = wanted.collect();
    let no_core = (Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let open_files = config.soft_open_files.map(|soft| {
        let own = rustix::process::getrlimit(Resource::Nofile);
        (Resource::Nofile, Rlimit { current: Some(soft), maximum: own.maximum })
    });
    let is_open = |(resource, _): &(Resource, _)| !wanted.iter().any(|(wanted, _)| wanted == resource);
    std::iter::once(no_core).chain(open_files).filter(is_open).chain(wanted.iter().copied()).collect()
}

/// Returns the `oom_score_adj` of workers: that of this process, raised.
fn worker_oom_score(raise: u16) -> i32 {
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").ok();
    let own: i32 = own.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    own.saturating_add(i32::from(raise)).min(MAX_OOM_SCORE)
}
