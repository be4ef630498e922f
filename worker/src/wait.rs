//! What surrounds everything for which the main thread waits: an adapter may have to let go of a lock meanwhile, such as
//! that of an interpreter, and look at signals afterwards.

use std::error::Error;
use std::time::Duration;

use crate::error::WorkerError;

/// The longest wait for work in one piece, if there is a hook: after this time, it sees a signal that came just before
/// the wait.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// Called on the main thread to wait; see [`Adapter::on_wait`](crate::Adapter::on_wait).
pub(crate) type WaitHook = Box<dyn Fn(&mut (dyn FnMut() + Send)) -> Result<(), Box<dyn Error + Send + Sync>> + Send>;

/// Waits on the main thread, by the hook if there is one.
#[derive(Default)]
pub(crate) struct Waiter(pub(crate) Option<WaitHook>);

impl Waiter {
    pub(crate) fn has_hook(&self) -> bool {
        self.0.is_some()
    }

    /// Does something that may take long.
    pub(crate) fn wait<T: Send>(&self, wait: impl FnOnce() -> T + Send) -> Result<T, WorkerError> {
        let Some(hook) = &self.0 else { return Ok(wait()) };
        let (mut wait, mut outcome) = (Some(wait), None);
        hook(&mut || {
            if let Some(wait) = wait.take() {
                outcome = Some(wait());
            }
        })
        .map_err(WorkerError::Hook)?;
        // A hook that does not call has it done without.
        Ok(outcome.unwrap_or_else(|| wait.take().expect("there is an outcome after the call")()))
    }
}
