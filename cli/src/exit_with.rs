//! `--exit-with`: another process, whose end is the end of the server.
//!
//! Not the parent-death signal: that is bound to the thread that started the server, and lost if the server's parent is a
//! shell in between.

use std::io;
use std::os::fd::OwnedFd;

use anyhow::anyhow;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::exit::{Exit, Failure};

/// A process that was running when it was [found](Self::find).
#[derive(Debug)]
pub(crate) struct OtherProcess {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
}

impl OtherProcess {
    /// Finds a process by its id. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// If there is none, or the system does not let us watch it.
    pub(crate) fn find(pid: i32) -> Result<Self, Failure> {
        let cannot = |error: io::Error| {
            Failure::new(
                Exit::Failed,
                anyhow!("cannot exit with process {pid}: {error}; --exit-with needs the id of a running process"),
            )
        };
        let number = Pid::from_raw(pid).ok_or_else(|| cannot(io::ErrorKind::InvalidInput.into()))?;
        let pidfd = pidfd_open(number, PidfdFlags::empty()).map_err(|error| cannot(error.into()))?;
        let pidfd = watch(pidfd).map_err(cannot)?;
        Ok(Self { pid: number, pidfd })
    }

    /// Returns its id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits until the process has ended, whether or not it has been reaped.
    pub(crate) async fn gone(&self) {
        // An error means that the runtime is ending.
        if self.pidfd.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[expect(deprecated, reason = "for types that lie about their descriptor; an OwnedFd does not")]
fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}
