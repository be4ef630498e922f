//! The one background thread that all clients of a process share.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::fork::Local;

/// Only locked while the interpreter is attached, and never while Python runs: so no fork finds it locked. It is never
/// dropped, since the thread ends with the process.
static RUNTIME: Mutex<Option<Local<Runtime>>> = Mutex::new(None);

/// Returns the runtime of this process, which starts with its first use.
pub(crate) fn handle(_py: Python<'_>) -> PyResult<Handle> {
    let mut shared = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = shared.as_ref().and_then(Local::get) {
        return Ok(runtime.handle().clone());
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        // They look up names.
        .max_blocking_threads(4)
        .thread_name("procpool-client")
        .on_thread_start(block_signals)
        .enable_all()
        .build()
        .map_err(|error| PyOSError::new_err(format!("cannot start the thread of the procpool client: {error}")))?;
    let handle = runtime.handle().clone();
    *shared = Some(Local::new(runtime));
    Ok(handle)
}

/// Leaves signals to the threads of Python: they have the handlers, and what a signal is to interrupt.
#[expect(unsafe_code, reason = "nothing safe sets the mask of a thread")]
fn block_signals() {
    // SAFETY: the set is initialized by sigfillset; the mask of this thread concerns nobody else. What a fault of the
    // thread itself raises stays as it is.
    unsafe {
        let mut signals = std::mem::zeroed();
        libc::sigfillset(&raw mut signals);
        for fault in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT, libc::SIGTRAP] {
            libc::sigdelset(&raw mut signals, fault);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const signals, std::ptr::null_mut());
    }
}

/// Waits for a future with the interpreter released. Ctrl-C ends it.
pub(crate) fn block_on<T: Send + 'static>(
    py: Python<'_>,
    future: impl Future<Output = T> + Send + 'static,
) -> PyResult<T> {
    let (sender, receiver) = sync_channel(1);
    let task = handle(py)?.spawn(async move {
        // Nobody waits any more after Ctrl-C.
        let _ = sender.send(future.await);
    });
    let receiver = &Mutex::new(receiver);
    loop {
        let answer = py.detach(|| {
            let receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner);
            receiver.recv_timeout(Duration::from_millis(100))
        });
        match answer {
            Ok(value) => return Ok(value),
            Err(RecvTimeoutError::Timeout) => py.check_signals().inspect_err(|_| task.abort())?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyOSError::new_err("the procpool client has failed; please report its message on stderr"));
            }
        }
    }
}
