//! State that the runtime changes and threads of Python wait for.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// How long Ctrl-C may wait to be heard.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);
/// After so many steps of a long piece of work it hears Ctrl-C, too.
pub(crate) const STEPS_BETWEEN_SIGNALS: usize = 1 << 16;

/// A state, and what waits for its changes. The lock is held for moments, and never while Python runs.
#[derive(Debug, Default)]
pub(crate) struct Monitor<T> {
    state: Mutex<T>,
    changed: Condvar,
}

impl<T: Send> Monitor<T> {
    pub(crate) fn new(state: T) -> Self {
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes all that wait for it.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until there is something, with the interpreter released. Returns `None` when the time is over.
    pub(crate) fn wait<R: Send>(
        &self,
        py: Python<'_>,
        timeout: Option<Duration>,
        mut find: impl FnMut(&mut T) -> Option<R> + Send,
    ) -> PyResult<Option<R>> {
        if let Some(found) = find(&mut self.lock()) {
            return Ok(Some(found));
        }
        // A time beyond the clock is no limit.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            py.check_signals()?;
            let next_look = Instant::now() + SIGNAL_INTERVAL;
            let until = deadline.map_or(next_look, |deadline| deadline.min(next_look));
            if let Some(found) = py.detach(|| self.wait_until(until, &mut find)) {
                return Ok(Some(found));
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                py.check_signals()?;
                return Ok(None);
            }
        }
    }

    fn wait_until<R>(&self, until: Instant, find: &mut impl FnMut(&mut T) -> Option<R>) -> Option<R> {
        let mut state = self.lock();
        loop {
            if let Some(found) = find(&mut state) {
                return Some(found);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Returns a time that Python gave in seconds; `None` is no limit, as is what is too long for a clock.
pub(crate) fn duration(seconds: Option<f64>) -> PyResult<Option<Duration>> {
    match seconds {
        Some(seconds) if seconds.is_nan() => Err(PyValueError::new_err("a time must be a number of seconds, not nan")),
        Some(seconds) => Ok(Duration::try_from_secs_f64(seconds.max(0.0)).ok()),
        None => Ok(None),
    }
}
