//! Kills the orphans of a server that was killed: the descendants of its workers.
//!
//! The kernel kills the workers with their server, and nothing that they have started. /proc is scanned for the
//! server's tag until none is left.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::tag::ServerTag;

/// How long orphans may take to end by themselves: some tidy up after a dead worker, see `process_group`. They get SIGTERM
/// at once, since nobody knows what they work for.
const GRACE_PERIOD: Duration = Duration::from_millis(300);
/// How long orphans may go on to start something new, or take to die.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before another look when there was nothing new: what was killed dies in it, and what it was just starting
/// shows.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Kills the orphans of a server that is gone, until none is left. Blocks; returns how many processes it has signalled.
///
/// # Errors
///
/// If the processes of this machine cannot be listed.
pub fn kill_orphans(server: ServerTag) -> io::Result<usize> {
    let began = Instant::now();
    let mut signalled = HashSet::new();
    let mut num_empty_looks = 0;
    loop {
        let (mut any, mut any_new) = (false, false);
        let is_over = began.elapsed() >= GRACE_PERIOD;
        for entry in std::fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let pid = name.to_str().and_then(|name| Pid::from_raw(name.parse().ok()?));
            let Some(pid) = pid else { continue };
            // SIGTERM once, and SIGKILL until it is gone.
            let signal = if is_over { Some(Signal::KILL) } else { (!signalled.contains(&pid)).then_some(Signal::TERM) };
            if is_of(pid, server, signal) {
                any = true;
                any_new |= signalled.insert(pid);
            }
        }
        num_empty_looks = if any { 0 } else { num_empty_looks + 1 };
        if num_empty_looks == 2 || began.elapsed() > TIMEOUT {
            return Ok(signalled.len());
        }
        if !any_new {
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

/// Returns whether a process is one, and alive; then it gets this signal.
fn is_of(pid: Pid, server: ServerTag, signal: Option<Signal>) -> bool {
    // Before the look at its tag: the number may be somebody else's after it, the descriptor never.
    let Ok(process) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return false };
    server.ancestor(pid).is_some()
        && !is_dead(&process)
        && signal.is_none_or(|signal| rustix::process::pidfd_send_signal(process, signal).is_ok())
}

/// Returns whether a process only waits to be reaped: then it can be signalled, and keeps its limits.
fn is_dead(process: &OwnedFd) -> bool {
    let mut ends = [PollFd::new(process, PollFlags::IN)];
    matches!(rustix::event::poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1))
}
