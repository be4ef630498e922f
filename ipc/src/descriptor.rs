//! File descriptors that are passed over a Unix socket, and the inherited one.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::FdFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

/// The most file descriptors that are sent with a frame: the progress page, and the pipe for dumps.
pub const MAX_FDS: usize = 2;

/// Sends bytes over a Unix socket, and file descriptors with the first byte, at most [`MAX_FDS`]. Returns how many
/// bytes were sent; if that is not 0, so were the descriptors.
///
/// # Errors
///
/// As `sendmsg(2)`; `WouldBlock` on a non-blocking socket.
pub fn send_with_fds(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds));
    debug_assert!(fits, "there are too many");
    Ok(rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// Receives bytes from a Unix socket, and the file descriptors sent with them, at most [`MAX_FDS`]; more are closed. 0
/// bytes: the end of the connection.
///
/// The descriptors are not inherited by child processes.
///
/// # Errors
///
/// As `recvmsg(2)`; `WouldBlock` on a non-blocking socket.
pub fn recv_with_fds(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    Ok((received.bytes, descriptors))
}

/// Takes ownership of an inherited socket by its number, such as that in `PROCPOOL_FD`, and sets close-on-exec. Works
/// once per process.
///
/// # Errors
///
/// If the number is below 3 or names no open socket, or the socket was taken before.
pub fn take_inherited_socket(number: RawFd) -> io::Result<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);

    if number < 3 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "stdin, stdout and stderr are not the pool's"));
    }
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the inherited socket was taken before"));
    }
    let socket = own(number)?;
    rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    Ok(socket)
}

#[expect(unsafe_code, reason = "there is no safe way to own a descriptor that a number names")]
fn own(number: RawFd) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;

    // SAFETY: the borrow ends with this function. Whatever the number names, asking for its type changes nothing, and
    // a number that names nothing is answered with EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::net::sockopt::socket_type(borrowed)?;
    // SAFETY: the process that started us opened this socket for us and told us its number; nothing else in this
    // process owns it, since it was there before main, and this function runs once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
