//! One worker process and its process group: signals that cannot hit anybody else, and the burial.
//!
//! A process id may be used again as soon as its process has been reaped. So the group is killed while its leader is
//! dead but not yet reaped, and after that nothing is signalled any more.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::wait;
use crate::error::ExitUsage;

/// The process of a session: a real one, or what a fuzzer plays.
pub(super) trait Process {
    /// Returns the process id.
    fn pid(&self) -> u32;

    /// Sends SIGTERM to the process group.
    fn terminate(&self);

    /// Sends SIGKILL to the process group, and to the worker in case it has left it.
    fn kill(&self);

    /// Waits until the process is dead. It is not reaped yet: its process id and its group's are still its own.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    fn dead(&self) -> impl Future<Output = ()> + Send;

    /// Kills what is left of the process group, then reaps the worker. Call it when [`Process::dead`] has returned.
    ///
    /// # Errors
    ///
    /// If something else in this process has reaped the worker.
    fn bury(&mut self) -> io::Result<(ExitStatus, ExitUsage)>;
}

/// A worker process that leads its process group. Dropping it kills the group.
#[derive(Debug)]
pub(super) struct WorkerProcess {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    reaped: bool,
    /// How much memory this process held when it forked the worker.
    forked_bytes: u64,
}

impl WorkerProcess {
    /// Takes charge of a child that was started with `process_group(0)`.
    ///
    /// # Errors
    ///
    /// If the kernel gives no pidfd, which is when we are out of file descriptors. The child is killed then.
    pub(super) fn new(child: &Child, forked_bytes: u64) -> io::Result<Self> {
        let pid = Pid::from_child(child);
        match watch(pid) {
            Ok(pidfd) => Ok(Self { pid, pidfd, reaped: false, forked_bytes }),
            Err(error) => {
                // Nothing has reaped it, so the number is still its own.
                let _ = rustix::process::kill_process_group(pid, Signal::KILL);
                wait::reap(pid)?;
                Err(error)
            }
        }
    }

    /// Returns the process id, as system calls take it.
    pub(super) fn id(&self) -> Pid {
        self.pid
    }
}

impl Process for WorkerProcess {
    fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    fn terminate(&self) {
        if !self.reaped && rustix::process::kill_process_group(self.pid, Signal::TERM).is_err() {
            // It has moved to a group of its own making.
            let _ = rustix::process::pidfd_send_signal(self.pidfd.get_ref(), Signal::TERM);
        }
    }

    fn kill(&self) {
        if !self.reaped {
            let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
            let _ = rustix::process::pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
        }
    }

    async fn dead(&self) {
        if self.pidfd.readable().await.is_err() {
            // The runtime is shutting down, and this task with it.
            std::future::pending::<()>().await;
        }
    }

    fn bury(&mut self) -> io::Result<(ExitStatus, ExitUsage)> {
        self.kill();
        let reaped = wait::reap(self.pid);
        self.reaped = true;
        let reaped = reaped?;
        // Up to the size of this process, it may be what the child had before it became the worker.
        let is_own = reaped.peak_rss_bytes > self.forked_bytes.saturating_add(self.forked_bytes / 8);
        let peak_rss_bytes = is_own.then_some(reaped.peak_rss_bytes);
        Ok((reaped.status, ExitUsage { peak_rss_bytes, cpu_time: Some(reaped.cpu_time) }))
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

#[expect(deprecated, reason = "for types that lie about their descriptor; an OwnedFd does not")]
fn watch(pid: Pid) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(rustix::process::pidfd_open(pid, PidfdFlags::empty())?, Interest::READABLE)
}
