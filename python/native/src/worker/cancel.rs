//! Raises `Cancelled` in the running function, and nowhere else.
//!
//! The thread that reads from the server sends the main thread a signal. Its handler, which Python runs on the main
//! thread between two bytecodes, raises. The signal also ends waits in system calls, which an exception that another
//! thread sets does not.
//!
//! Why no other code is hit: the handler raises only within [`cancellable`], which surrounds the call and nothing else,
//! and only while the SDK says that the running item is cancelled. The SDK resets that on the main thread, before the
//! first item of the next chunk, and begins no other item of a chunk that it has cancelled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// How long the signal is repeated: one that arrives after the interpreter's last check, but before a system call that
/// waits, does not end that.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(20);
const MAX_SIGNALS: u32 = 100;

/// The main thread is within the call of an item.
static IS_RUNNING: AtomicBool = AtomicBool::new(false);
/// `Cancelled` was raised in the running item, or in the last one.
static WAS_RAISED: AtomicBool = AtomicBool::new(false);

/// A real-time signal: programs and libraries rarely use the upper ones. Handlers do not survive exec.
fn cancel_signal() -> libc::c_int {
    libc::SIGRTMAX() - 3
}

/// Installs the signal handler. On the main thread.
pub(super) fn install(py: Python<'_>) -> PyResult<()> {
    let handler = wrap_pyfunction!(raise_if_cancelled, py)?;
    py.import("signal")?.call_method1("signal", (cancel_signal(), handler)).map(drop)
}

#[pyfunction]
fn raise_if_cancelled(py: Python<'_>, _signal: &Bound<'_, PyAny>, _frame: &Bound<'_, PyAny>) -> PyResult<()> {
    if IS_RUNNING.load(Ordering::SeqCst) { check(py) } else { Ok(()) }
}

fn check(py: Python<'_>) -> PyResult<()> {
    if procpool_worker::cancelled() && !WAS_RAISED.swap(true, Ordering::SeqCst) { Err(cancelled(py)) } else { Ok(()) }
}

fn cancelled(py: Python<'_>) -> PyErr {
    let error = class(py).and_then(Bound::call0);
    error.map_or_else(|error| error, PyErr::from_value)
}

fn class(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CANCELLED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CANCELLED
        .get_or_try_init(py, || PyResult::Ok(py.import("procpool._cancelled")?.getattr("Cancelled")?.unbind()))?;
    Ok(class.bind(py))
}

/// Returns whether the exception is `Cancelled`.
pub(super) fn is_cancelled(py: Python<'_>, error: &PyErr) -> bool {
    class(py).is_ok_and(|class| error.matches(py, class).unwrap_or(false))
}

/// Runs what belongs to the item, during which `Cancelled` may be raised, at most once.
pub(super) fn cancellable<T, E: From<PyErr>>(py: Python<'_>, run: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    /// Ends the item also if it panics.
    struct Running;

    impl Drop for Running {
        fn drop(&mut self) {
            IS_RUNNING.store(false, Ordering::SeqCst);
        }
    }

    WAS_RAISED.store(false, Ordering::SeqCst);
    IS_RUNNING.store(true, Ordering::SeqCst);
    let _running = Running;
    // The signal may have been handled just before.
    check(py)?;
    run()
}

/// Sends the signal to the main thread.
pub(super) struct Interrupter {
    main_thread: libc::pthread_t,
    wakeups: SyncSender<()>,
}

/// Repeats the signal, on a thread of its own.
pub(super) struct Repeater {
    main_thread: libc::pthread_t,
    wakeups: Receiver<()>,
}

/// Returns what interrupts items, and what repeats the signal until the other one is dropped. On the main thread.
#[expect(unsafe_code, reason = "a signal for one thread of this process has no safe function")]
pub(super) fn interrupter() -> (Interrupter, Repeater) {
    // SAFETY: it has no preconditions.
    let main_thread = unsafe { libc::pthread_self() };
    let (sender, receiver) = mpsc::sync_channel(1);
    (Interrupter { main_thread, wakeups: sender }, Repeater { main_thread, wakeups: receiver })
}

impl Interrupter {
    /// Interrupts the running item.
    pub(super) fn interrupt(&self) {
        signal(self.main_thread);
        // If it is full, the repeater will look anyway.
        let _ = self.wakeups.try_send(());
    }
}

impl Repeater {
    pub(super) fn run(self) {
        while self.wakeups.recv().is_ok() {
            self.repeat();
        }
    }

    /// Repeats the signal until it was handled, or the item has ended.
    fn repeat(&self) {
        for _ in 0..MAX_SIGNALS {
            thread::sleep(SIGNAL_INTERVAL);
            let is_pending =
                IS_RUNNING.load(Ordering::SeqCst) && procpool_worker::cancelled() && !WAS_RAISED.load(Ordering::SeqCst);
            if !is_pending {
                return;
            }
            signal(self.main_thread);
        }
    }
}

#[expect(unsafe_code, reason = "there is no safe function for it")]
fn signal(main_thread: libc::pthread_t) {
    // SAFETY: the main thread lives as long as the process. A handler is installed, so the signal does not end it; it can
    // only fail for a thread or a signal that does not exist.
    unsafe { libc::pthread_kill(main_thread, cancel_signal()) };
}
