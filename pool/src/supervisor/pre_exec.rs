//! What a worker does to itself between fork and exec. With `wait`, one of the two modules of this crate with unsafe
//! code.
//!
//! Its argument: a closure given to `pre_exec` runs in the forked child of a process with many threads, where another
//! thread may have held any lock at the time of the fork. So it may only make system calls: no allocation, no lock, no
//! panic. Everything that needs memory ([`ChildSetup`]) is made before the fork, and each call below is one system call
//! through rustix's raw backend or through libc's `signal`, `dup2`, `fcntl` and `syscall`, which POSIX or the kernel
//! make safe to call here.

#![expect(unsafe_code, reason = "pre_exec is unsafe, and so are the system calls that rustix does not wrap")]

use std::io;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, Signal};

/// The file descriptor at which a worker finds its channel.
pub(super) const CHANNEL_FD: RawFd = 3;

/// `CLOSE_RANGE_CLOEXEC` of `linux/close_range.h`.
const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
/// The signals whose disposition is reset: all that there are; the kernel refuses the others.
const SIGNALS: std::ops::RangeInclusive<libc::c_int> = 1..=64;

/// What the child needs to know, made before the fork.
#[derive(Debug)]
pub(super) struct ChildSetup {
    /// The server.
    pub(super) parent: Pid,
    /// The worker's end of the channel. Stays open in the server until the child has been started.
    pub(super) channel: RawFd,
    /// What the descendants are known by.
    pub(super) tag: (Resource, Rlimit),
    /// What the kernel limits.
    pub(super) rlimits: Vec<(Resource, Rlimit)>,
}

/// Arranges for the child to prepare itself. The channel of `setup` must be open until the command was spawned.
pub(super) fn prepare(command: &mut Command, setup: ChildSetup) {
    // SAFETY: `run_in_child` only makes system calls, as the module's documentation argues.
    unsafe {
        command.pre_exec(move || run_in_child(&setup));
    }
}

fn run_in_child(setup: &ChildSetup) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The server may have died before the call above, and then the signal never comes.
    if rustix::process::getppid() != Some(setup.parent) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    reset_signals();
    rustix::thread::set_no_new_privs(true)?;
    // A worker can live without it: the environment says the same.
    let (resource, limit) = &setup.tag;
    let _ = rustix::process::setrlimit(*resource, *limit);
    for (resource, limit) in &setup.rlimits {
        rustix::process::setrlimit(*resource, *limit)?;
    }
    place_channel(setup.channel)
}

/// Undoes ignored signals; exec itself resets those that are handled. The standard library has emptied the mask.
fn reset_signals() {
    for signal in SIGNALS {
        // SAFETY: `signal` is async-signal-safe, and SIG_DFL is no function of ours. It fails for SIGKILL and SIGSTOP
        // and for the two signals that libc keeps for itself, which nobody can ignore.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

/// Puts the channel where the worker looks for it, and leaves nothing else open above the standard streams.
fn place_channel(channel: RawFd) -> io::Result<()> {
    let placed = if channel == CHANNEL_FD {
        // dup2 onto itself would leave close-on-exec set.
        // SAFETY: a system call on a number, without memory.
        unsafe { libc::fcntl(channel, libc::F_SETFD, 0) }
    } else {
        // SAFETY: as above. Nothing in the child owns CHANNEL_FD: the thread that forked held it (see `spawn`), so the
        // pipe by which the standard library reports a failed exec is elsewhere.
        unsafe { libc::dup2(channel, CHANNEL_FD) }
    };
    if placed < 0 {
        return Err(io::Error::last_os_error());
    }
    // Every file that Rust opens is close-on-exec already; this is for those that other code opened. Not closed
    // outright, since the standard library's pipe must live until exec. Kernels before 5.11 do not know the flag.
    // SAFETY: a system call on numbers, without memory.
    unsafe {
        libc::syscall(libc::SYS_close_range, CHANNEL_FD + 1, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC);
    }
    Ok(())
}
