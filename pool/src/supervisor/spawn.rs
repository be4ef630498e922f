//! The immortal thread, which starts every worker process of a spawner.
//!
//! The parent-death signal is bound to the *thread* that forks: a worker that a thread of the runtime's blocking pool
//! starts is killed when that thread has been idle for ten seconds. So one thread does it all, and it ends only after
//! the last worker has. The reaper works there too, so that it never meets a child that is just being started.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread::JoinHandle;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit};
use tokio::sync::{mpsc, oneshot};

use super::pre_exec::{self, CHANNEL_FD, ChildSetup};
use super::process_group::WorkerProcess;
use super::tag::WorkerTag;
use crate::usage;

/// How much work may wait for the thread. Whoever has more waits to hand it over.
const REQUEST_CAPACITY: usize = 16;

/// Something to do; `Break` ends the thread.
type Work = Box<dyn FnOnce() -> ControlFlow<()> + Send>;

/// The sending side of the thread's channel. The thread ends when it is told to, or the last of them is dropped.
#[derive(Debug, Clone)]
pub(super) struct SpawnThread {
    requests: mpsc::Sender<Work>,
}

impl SpawnThread {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the system has no thread for us.
    pub(super) fn start() -> io::Result<(Self, JoinHandle<()>)> {
        let (requests, mut queue) = mpsc::channel::<Work>(REQUEST_CAPACITY);
        let thread = std::thread::Builder::new().name("procpool-spawn".to_owned()).spawn(move || {
            while let Some(work) = queue.blocking_recv() {
                if work().is_break() {
                    return;
                }
            }
        })?;
        Ok((Self { requests }, thread))
    }

    /// Runs this on the thread, after what waits already. `None` if the thread is gone, which is a bug.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the work may be done all the same, and its result is dropped.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let work = Box::new(move || {
            // The session that asked may be gone; then the result is dropped, and a process in it is killed.
            let _ = reply.send(work());
            ControlFlow::Continue(())
        });
        self.requests.send(work).await.ok()?;
        answer.await.ok()
    }

    /// Ends the thread after what waits already. Whatever is asked of it later is not done.
    pub(super) async fn stop(&self) {
        // If it has ended already, so much the better.
        let _ = self.requests.send(Box::new(|| ControlFlow::Break(()))).await;
    }
}

/// Starts a worker process with this end of the channel. Must be called on the immortal thread, within the runtime that
/// is to watch it.
///
/// # Errors
///
/// If the program cannot be started.
pub(super) fn start_process(
    mut command: Command,
    channel: UnixStream,
    tag: WorkerTag,
    oom_score_adj: String,
    rlimits: Vec<(Resource, Rlimit)>,
) -> io::Result<WorkerProcess> {
    command.process_group(0);
    let (parent, channel_fd) = (rustix::process::getpid(), channel.as_raw_fd());
    let setup = ChildSetup { parent, channel: channel_fd, tag: tag.limit(), oom_score_adj, rlimits };
    pre_exec::prepare(&mut command, setup);

    // If this number were free, the standard library's pipe for a failed exec could land there, and the child would
    // replace it by the channel.
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let placeholder = rustix::io::fcntl_dupfd_cloexec(&null, CHANNEL_FD)?;
    let before = own_bytes();
    let child = command.spawn();
    drop((placeholder, channel));
    WorkerProcess::new(&child?, before.max(own_bytes()))
}

/// Returns how much memory this process holds.
fn own_bytes() -> u64 {
    usage::resident_bytes(std::process::id()).unwrap_or(0)
}
