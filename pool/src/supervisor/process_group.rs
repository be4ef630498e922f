//! One worker process and its process group: signals that cannot hit anybody else, and reaping.
//!
//! A process id may be used again as soon as its process has been reaped. So the group is killed while its leader is
//! dead but not yet reaped, and after that nothing is signalled any more.
//!
//! To kill a worker is not to kill its group: what it has started may have to tidy up after it, as the process does
//! that Python has for its shared memory. What still works for the worker's item must not go on, though. So the others
//! get SIGTERM, and SIGKILL only if they are still there when their grace is over.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::thread::WorkThread;
use super::wait;
use crate::error::ExitUsage;
use crate::usage;

/// How long what a dead worker has started may take to end by itself, before it gets SIGTERM.
const HELPER_GRACE_PERIOD: Duration = Duration::from_millis(300);
/// From that SIGTERM to SIGKILL: for whoever does not heed the one, since it has to tidy up first. Nothing waits for it.
const HELPER_KILL_GRACE_PERIOD: Duration = Duration::from_secs(2);
/// From one look at the group to the next: the first, and the longest. Most are done at once.
const LOOK_INTERVALS: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(80)];

/// The process of a session: a real one, or what a test plays.
pub(super) trait Process: Send + Sync + 'static {
    /// Returns the process id.
    fn pid(&self) -> u32;

    /// Notes which process runs the items, as the worker told. It is another one where a wrapper started it.
    fn announce(&self, pid: u32);

    /// Sends SIGTERM to the process group.
    fn terminate(&self);

    /// Sends SIGKILL to the worker, and SIGTERM to what else is in the process group.
    fn kill(&self);

    /// Sends SIGCONT to the worker.
    fn resume(&self);

    /// Waits until the process is dead. It is not reaped yet: its process id and its group's are still its own.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    fn dead(&self) -> impl Future<Output = ()> + Send;

    /// Returns how the process ended. Call it when [`Process::dead`] has returned.
    ///
    /// # Errors
    ///
    /// If something else in this process has reaped the worker.
    fn end(&self) -> io::Result<(ExitStatus, ExitUsage)>;

    /// Waits for a moment until nothing is left of the process group, kills what is, then reaps the worker. Call it
    /// when [`Process::dead`] has returned.
    fn reap(&self) -> impl Future<Output = ()> + Send;
}

/// A worker process that leads its process group. Dropping it kills the group.
#[derive(Debug)]
pub(super) struct WorkerProcess {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    runner: OnceLock<Runner>,
    reaped: AtomicBool,
    /// How much memory this process held when it forked the worker.
    forked_bytes: u64,
    look_thread: WorkThread,
}

/// The process that runs the items, if it is not the leader of the group.
#[derive(Debug)]
enum Runner {
    /// Another one of the group.
    Member(OwnedFd),
    /// One that we cannot find, for it lives in a namespace or a group of its own.
    Unknown,
}

impl WorkerProcess {
    /// Takes charge of a child that was started with `process_group(0)`.
    ///
    /// # Errors
    ///
    /// If the kernel gives no pidfd, which is when we are out of file descriptors. The child is killed then.
    pub(super) fn new(child: &Child, forked_bytes: u64, look_thread: WorkThread) -> io::Result<Self> {
        let pid = Pid::from_child(child);
        match watch(pid) {
            Ok(pidfd) => {
                let (runner, reaped) = (OnceLock::new(), AtomicBool::new(false));
                Ok(Self { pid, pidfd, runner, reaped, forked_bytes, look_thread })
            }
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

    fn is_reaped(&self) -> bool {
        self.reaped.load(Ordering::Relaxed)
    }

    /// Sends a signal to all of the group, and to the worker in case it has left it.
    fn signal_group(&self, signal: Signal) {
        if !self.is_reaped() && rustix::process::kill_process_group(self.pid, signal).is_err() {
            // It has moved to a group of its own making.
            self.signal_worker(signal);
        }
    }

    fn signal_worker(&self, signal: Signal) {
        // It may be dead; then there is nobody to signal.
        let _ = rustix::process::pidfd_send_signal(self.pidfd.get_ref(), signal);
        if let Some(Runner::Member(runner)) = self.runner.get() {
            let _ = rustix::process::pidfd_send_signal(runner, signal);
        }
    }

    /// Waits until only the dead leader is left of the group, for a moment at most. Returns whether that is so.
    async fn group_ends_within(&self, grace_period: Duration) -> bool {
        let (group, deadline) = (self.pid(), Instant::now() + grace_period);
        let [mut interval, longest] = LOOK_INTERVALS;
        while self.look_thread.run(move || has_living_members(group)).await == Some(true) {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(interval).await;
            interval = (interval * 2).min(longest);
        }
        true
    }
}

impl Process for WorkerProcess {
    fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    fn announce(&self, pid: u32) {
        if pid != self.pid() {
            self.runner.get_or_init(|| open_member(self.pid(), pid).map_or(Runner::Unknown, Runner::Member));
        }
    }

    fn terminate(&self) {
        self.signal_group(Signal::TERM);
        // One that is stopped would not take it.
        self.signal_group(Signal::CONT);
    }

    fn kill(&self) {
        if self.is_reaped() {
            return;
        }
        self.signal_worker(Signal::KILL);
        // Nothing may work on for an item that is about to be reported as failed, nor take an item's place.
        self.signal_group(match self.runner.get() {
            Some(Runner::Unknown) => Signal::KILL,
            Some(Runner::Member(_)) | None => Signal::TERM,
        });
    }

    fn resume(&self) {
        self.signal_worker(Signal::CONT);
    }

    async fn dead(&self) {
        if self.pidfd.readable().await.is_err() {
            // The runtime is shutting down, and this task with it.
            std::future::pending::<()>().await;
        }
    }

    fn end(&self) -> io::Result<(ExitStatus, ExitUsage)> {
        if let Some(runner) = self.runner.get() {
            // The leader was a wrapper and is dead: what it wrapped is of no use any more.
            match runner {
                Runner::Member(runner) => drop(rustix::process::pidfd_send_signal(runner, Signal::KILL)),
                Runner::Unknown => self.signal_group(Signal::KILL),
            }
        }
        let end = wait::end_of(self.pid)?;
        // Up to the size of this process, it may be what the child had before it became the worker.
        let is_own = end.peak_rss_bytes > self.forked_bytes.saturating_add(self.forked_bytes / 8);
        let peak_rss_bytes = is_own.then_some(end.peak_rss_bytes);
        Ok((end.status, ExitUsage { peak_rss_bytes, cpu_time: Some(end.cpu_time) }))
    }

    async fn reap(&self) {
        if !self.group_ends_within(HELPER_GRACE_PERIOD).await {
            self.signal_group(Signal::TERM);
            self.group_ends_within(HELPER_KILL_GRACE_PERIOD).await;
        }
        self.signal_group(Signal::KILL);
        self.reaped.store(true, Ordering::Relaxed);
        // That its status is lost was told of already.
        let _ = wait::reap(self.pid);
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        self.signal_group(Signal::KILL);
        if !self.is_reaped() {
            self.signal_worker(Signal::KILL);
        }
    }
}

#[expect(deprecated, reason = "for types that lie about their descriptor; an OwnedFd does not")]
fn watch(pid: Pid) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(rustix::process::pidfd_open(pid, PidfdFlags::empty())?, Interest::READABLE)
}

/// Returns a process, if it is one of this process group. The number is looked at when it can't be anybody else's any
/// more, unless its process has ended, and then no signal reaches anybody.
pub(super) fn open_member(group: u32, pid: u32) -> Option<OwnedFd> {
    let number = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let process = rustix::process::pidfd_open(number, PidfdFlags::empty()).ok()?;
    (wait::group_of(pid) == Some(group)).then_some(process)
}

/// Returns whether a process group has members that live, beside its leader.
fn has_living_members(leader: u32) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    let mut pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.any(|pid: u32| pid != leader && wait::group_of(pid) == Some(leader) && usage::is_alive(pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_members_of_the_group_are_signalled() {
        let own_group = rustix::process::getpgrp().as_raw_nonzero().get().unsigned_abs();
        assert!(open_member(own_group, std::process::id()).is_some());
        assert!(open_member(own_group + 1, std::process::id()).is_none());
        assert!(open_member(1, 0).is_none());
    }

    /// The kernel's own threads have no group; where they can be seen at all, 2 is one.
    #[test]
    fn every_process_may_be_looked_at() {
        for entry in std::fs::read_dir("/proc").unwrap() {
            let Ok(pid) = entry.unwrap().file_name().to_str().unwrap().parse::<u32>() else { continue };
            assert!(open_member(u32::MAX, pid).is_none());
        }
        assert!(!has_living_members(u32::MAX));
    }
}
