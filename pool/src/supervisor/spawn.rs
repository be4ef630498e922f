//! Starting a worker process: on the immortal thread, which starts every worker process of a spawner.
//!
//! The parent-death signal is bound to the *thread* that forks: a worker that a thread of the runtime's blocking pool
//! starts is killed when that thread has been idle for ten seconds. So one thread does it all, and it ends only after
//! the last worker has. The subreaper works there too, so that it never meets a child that is just being started.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit};

use super::orphans::WorkerTag;
use super::pre_exec::{self, CHANNEL_FD, ChildSetup};
use super::process_group::WorkerProcess;
use super::thread::WorkThread;
use crate::usage;

/// The name of the immortal thread.
pub(super) const THREAD_NAME: &str = "procpool-spawn";

/// How a worker process is started.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) command: Command,
    /// The worker's end of the channel.
    pub(super) channel: UnixStream,
    pub(super) tag: WorkerTag,
    pub(super) oom_score_adj: String,
    pub(super) rlimits: Vec<(Resource, Rlimit)>,
    /// Where the process group is looked at when the worker is dead.
    pub(super) look_thread: WorkThread,
}

/// Starts a worker process. Must be called on the immortal thread, within the runtime that is to watch it.
///
/// # Errors
///
/// If the program cannot be started.
pub(super) fn start_process(start: Start) -> io::Result<WorkerProcess> {
    let Start { mut command, channel, tag, oom_score_adj, rlimits, look_thread } = start;
    command.process_group(0);
    let (parent, channel_fd) = (rustix::process::getpid(), channel.as_raw_fd());
    let setup = ChildSetup { parent, channel: channel_fd, tag: tag.limit(), rlimits };
    pre_exec::prepare(&mut command, setup);

    // If this number were free, the standard library's pipe for a failed exec could land there, and the child would
    // replace it by the channel.
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let placeholder = rustix::io::fcntl_dupfd_cloexec(&null, CHANNEL_FD)?;
    let before = own_bytes();
    let child = command.spawn();
    drop((placeholder, channel));
    let child = child?;
    // By now it is its own program. Before that it is a copy of this process and, as this may have forbidden others of
    // its user to look into it, could not write this file itself. A worker can live without it: in some sandboxes the
    // file is not there; and raising is always allowed.
    let _ = std::fs::write(format!("/proc/{}/oom_score_adj", child.id()), oom_score_adj);
    WorkerProcess::new(&child, before.max(own_bytes()), look_thread)
}

/// Returns how much memory this process holds.
fn own_bytes() -> u64 {
    usage::resident_bytes(std::process::id()).unwrap_or(0)
}
