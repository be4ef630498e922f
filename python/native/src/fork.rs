//! Knows whether this process was forked from the one that made something.
//!
//! A forked child has no threads but one, so whatever has threads or locks of its own is dead in it: it must neither be
//! used nor dropped there. A process uses and drops only what it made; what is inherited is leaked.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many forks lie between the process that loaded this module and this one.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Returns the generation of this process: what was made in another one was inherited.
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// Has forks counted from now on.
#[expect(unsafe_code, reason = "there is no other way to hear of a fork")]
pub(crate) fn watch() {
    extern "C" fn in_child() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the handler only adds to an atomic, which is safe in a child of a process with threads.
    let result = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    assert_eq!(result, 0, "there is memory for one handler");
}
