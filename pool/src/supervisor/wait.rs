//! How a dead worker ended, and which group a process is of. One of the two modules of this crate with unsafe code.
//!
//! Its argument: `waitid` writes two values of plain numbers through pointers to locals that outlive the call, and
//! `getpgid` takes and returns a number.

#![expect(unsafe_code, reason = "nothing else tells of a dead child's rusage, nor bears the group of a kernel thread")]

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions};

/// The bit of a wait status that says that there was a core dump.
const CORE_DUMPED: i32 = 0x80;

/// How a child ended, and what it and the descendants that it waited for have used.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) status: ExitStatus,
    pub(super) cpu_time: Duration,
    /// The most memory that one of these processes had. A child begins as a copy of this process, and the kernel counts
    /// that, too: so a peak is never less than what this process had when it forked.
    pub(super) peak_rss_bytes: u64,
}

/// Waits until a child is dead, and does not reap it: its process id stays its own.
///
/// # Errors
///
/// If it is no child of ours, or something else has reaped it.
pub(super) fn end_of(pid: Pid) -> io::Result<End> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // The library's function of this name has no rusage, and the system call has.
        // SAFETY: both pointers are to locals of the types that the call writes.
        let waited = unsafe {
            libc::syscall(
                libc::SYS_waitid,
                libc::P_PID,
                pid.as_raw_nonzero().get(),
                info.as_mut_ptr(),
                libc::WEXITED | libc::WNOWAIT,
                usage.as_mut_ptr(),
            )
        };
        if waited >= 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: both are made of numbers, for which all zeros are a value, and the call has written them.
    let (info, usage) = unsafe { (info.assume_init(), usage.assume_init()) };
    // SAFETY: what waitid tells of is the end of a child, and then this field is there.
    let status = unsafe { info.si_status() };
    let status = match info.si_code {
        libc::CLD_EXITED => status << 8,
        libc::CLD_DUMPED => status | CORE_DUMPED,
        _ => status,
    };
    Ok(End {
        status: ExitStatus::from_raw(status),
        cpu_time: duration(usage.ru_utime) + duration(usage.ru_stime),
        peak_rss_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
    })
}

/// Reaps a child that is dead or about to be.
///
/// # Errors
///
/// If it is no child of ours, or something else has reaped it.
pub(super) fn reap(pid: Pid) -> io::Result<()> {
    rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), WaitOptions::empty()))?;
    Ok(())
}

/// Returns the number of a process's group; 0 for the kernel's own threads. `None` if there is no such process.
pub(super) fn group_of(pid: u32) -> Option<u32> {
    let pid = libc::pid_t::try_from(pid).ok()?;
    // SAFETY: a system call on a number, without memory.
    let group = unsafe { libc::getpgid(pid) };
    u32::try_from(group).ok()
}

fn duration(time: libc::timeval) -> Duration {
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0)) + Duration::from_micros(micros)
}
