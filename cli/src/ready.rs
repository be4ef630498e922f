//! `--ready-fd`: where a server tells that it listens. What it tells is the business of `serve`.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd};

use anyhow::anyhow;
use rustix::io::FdFlags;

use crate::exit::{Exit, Failure};

/// Returns stdout, or the inherited descriptor with this number, at least 3. Dropping that closes it. Must be called once, and
/// before this process opens any descriptor.
///
/// # Errors
///
/// If no descriptor has this number.
pub(crate) fn target(number: Option<i32>) -> Result<Box<dyn io::Write>, Failure> {
    let Some(number) = number else { return Ok(Box::new(io::stdout())) };
    let closed = |error: rustix::io::Errno| {
        Failure::new(
            Exit::BadInput,
            anyhow!("cannot use descriptor {number} (--ready-fd): {error}; it must be open and inherited"),
        )
    };
    Ok(Box::new(own(number).map(File::from).map_err(closed)?))
}

#[expect(unsafe_code, reason = "there is no safe way to own a descriptor that a number names")]
fn own(number: i32) -> rustix::io::Result<OwnedFd> {
    // SAFETY: the borrow ends with this function. A number that names nothing is answered with EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    // No process that the server starts may keep it open.
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: it was there before this process opened anything, so nothing else in it owns it, and this is called once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
