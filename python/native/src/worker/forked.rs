//! What happens to processes that the user's functions fork: they are no workers.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use crate::fork::generation;

const MESSAGE: &str =
    "procpool.worker: a process forked by the function returned from it and is ended; the worker goes on\n";
const NONE: RawFd = -1;

/// The socket to the server.
static SOCKET: AtomicI32 = AtomicI32::new(NONE);
/// The process that is the worker.
static WORKER_GENERATION: AtomicU64 = AtomicU64::new(0);

/// Has children of this process close the socket: the server must see the end of a worker whose children live on.
#[expect(unsafe_code, reason = "there is no other way to hear of a fork")]
pub(super) fn close_in_children(socket: RawFd) {
    extern "C" fn in_child() {
        let socket = SOCKET.swap(NONE, Ordering::Relaxed);
        if socket != NONE {
            // SAFETY: the descriptor is inherited, and nothing in this process uses it: what would does not run here.
            unsafe { libc::close(socket) };
        }
    }
    WORKER_GENERATION.store(generation(), Ordering::Relaxed);
    SOCKET.store(socket, Ordering::Relaxed);
    // SAFETY: the handler changes an atomic and closes a descriptor, which is safe in a child of a process with threads.
    let result = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    assert_eq!(result, 0, "there is memory for one handler");
}

/// Ends this process if it is not the worker, but was forked by it: it has no right to answer.
#[expect(unsafe_code, reason = "Python's and the C library's exit handlers are the worker's")]
pub(super) fn end_if_child() {
    if generation() != WORKER_GENERATION.load(Ordering::Relaxed) {
        // SAFETY: the bytes live; if nobody reads them, that is all the same. The process ends.
        unsafe {
            libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len());
            libc::_exit(1);
        }
    }
}
