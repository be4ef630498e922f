//! Reads a socket directly into a decoder's buffer, for blocking code. An async runtime does this itself.

use std::io;
use std::os::fd::AsFd;

use rustix::net::RecvFlags;

use crate::FrameDecoder;

/// Receives once from a socket into the decoder's spare capacity. Returns the number of bytes; 0 at the end of the
/// connection.
///
/// # Errors
///
/// As `recv(2)`.
#[expect(unsafe_code, reason = "the bytes that the kernel wrote count as written")]
pub fn receive(socket: impl AsFd, decoder: &mut FrameDecoder) -> io::Result<usize> {
    let buffer = decoder.buffer();
    let ((received, _), _) = rustix::net::recv(socket, buffer.spare_capacity_mut(), RecvFlags::empty())?;
    let count = received.len();
    let filled = buffer.len() + count;
    // SAFETY: the bytes up to the old length were initialised, and the kernel has initialised `count` more after them,
    // within the spare capacity.
    unsafe { buffer.set_len(filled) };
    Ok(count)
}
