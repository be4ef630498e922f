//! Returns freed memory to the system.
//!
//! The C library keeps what was freed, up to twice the largest block (so up to 64 MiB), for the next large item. While a
//! worker is idle, other processes have more use for it, and the server takes it for what the worker needs.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;

/// The size of items or a result from which this is worth its cost.
const LARGE_BYTES: usize = 1 << 20;

static HAS_HAD_LARGE: AtomicBool = AtomicBool::new(false);

/// Notes that something of this size is, or was, in memory.
pub(super) fn note(num_bytes: usize) {
    if num_bytes >= LARGE_BYTES {
        HAS_HAD_LARGE.store(true, Ordering::Relaxed);
    }
}

/// Has the C library return unused memory, if there has been something large since. Does nothing while an item runs.
#[cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "there is no safe function for it"))]
pub(super) fn give_back(py: Python<'_>) {
    if HAS_HAD_LARGE.load(Ordering::Relaxed) && procpool_worker::current().is_none() {
        HAS_HAD_LARGE.store(false, Ordering::Relaxed);
        // What threads without the interpreter have dropped is freed when it is attached again.
        py.detach(|| {});
        #[cfg(target_env = "gnu")]
        // SAFETY: it has no preconditions.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
