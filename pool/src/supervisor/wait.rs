//! Reaping a worker, with what the kernel knows of it. One of the two modules of this crate with unsafe code.
//!
//! Its argument: `wait4` writes two values of plain numbers through pointers to locals that outlive the call.

#![expect(unsafe_code, reason = "neither the standard library nor rustix reaps a child with its rusage")]

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Pid;

/// How a child ended, and what it and the descendants that it waited for have used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reaped {
    pub(super) status: ExitStatus,
    pub(super) cpu_time: Duration,
    /// The most memory that one of these processes had. A child begins as a copy of this process, and the kernel counts
    /// that, too: so a peak is never less than what this process had when it forked.
    pub(super) peak_rss_bytes: u64,
}

/// Waits until a child is dead, and reaps it.
///
/// # Errors
///
/// If it is no child of ours, or something else has reaped it.
pub(super) fn reap(pid: Pid) -> io::Result<Reaped> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to locals of the types that the call writes.
        let reaped = unsafe { libc::wait4(pid.as_raw_nonzero().get(), &raw mut status, 0, usage.as_mut_ptr()) };
        if reaped >= 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: it is made of numbers, for which all zeros are a value, and the call has written it.
    let usage = unsafe { usage.assume_init() };
    Ok(Reaped {
        status: ExitStatus::from_raw(status),
        cpu_time: duration(usage.ru_utime) + duration(usage.ru_stime),
        peak_rss_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
    })
}

fn duration(time: libc::timeval) -> Duration {
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0)) + Duration::from_micros(micros)
}
