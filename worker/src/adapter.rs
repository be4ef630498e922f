//! What a worker needs that runs the functions of another language: to find them once it is connected, to let go of the
//! interpreter while it waits, and to end as that language does.

use std::error::Error;
use std::fmt;
use std::os::fd::OwnedFd;

use crate::channel::DisconnectHook;
use crate::function::Function;
use crate::wait::{WaitHook, Waiter};

type BoxError = Box<dyn Error + Send + Sync>;
type Loader = Box<dyn FnOnce() -> Result<Vec<Function>, BoxError> + Send>;
type DumpHook = Box<dyn FnOnce(OwnedFd) -> Option<DumpSignal> + Send>;

/// The parts of a worker that only an adapter to another language needs; see [`Worker::adapter`](crate::Worker::adapter).
#[derive(Default)]
pub struct Adapter {
    pub(crate) sdk: Option<String>,
    pub(crate) loader: Option<Loader>,
    pub(crate) dump_hook: Option<DumpHook>,
    pub(crate) waiter: Waiter,
    pub(crate) disconnect_hook: Option<DisconnectHook>,
}

/// The signal on which a worker dumps its stacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpSignal {
    /// The number of the signal, 1 to 31.
    pub number: u32,
    /// The text that ends a complete dump, at most 1024 bytes. Empty: not known.
    pub end: String,
}

impl Adapter {
    /// Returns an adapter that changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the name and the version of the SDK, for the server's logs.
    #[must_use]
    pub fn sdk(mut self, sdk: impl Into<String>) -> Self {
        self.sdk = Some(sdk.into());
        self
    }

    /// Sets a function that returns the functions of the worker, in addition to those that were registered. It is called
    /// on the worker's thread once the worker is connected, so that the worker ends with the server however long this
    /// takes.
    #[must_use]
    pub fn loader<F, E>(mut self, loader: F) -> Self
    where
        F: FnOnce() -> Result<Vec<Function>, E> + Send + 'static,
        E: Into<BoxError>,
    {
        self.loader = Some(Box::new(|| loader().map_err(Into::into)));
        self
    }

    /// Sets a function that makes a signal write the stacks of all threads to this pipe, from a signal handler at any
    /// time. It returns `None` if there is no such signal, and is not called if the server does not ask for dumps.
    #[must_use]
    pub fn dump_stacks(mut self, register: impl FnOnce(OwnedFd) -> Option<DumpSignal> + Send + 'static) -> Self {
        self.dump_hook = Some(Box::new(register));
        self
    }

    /// Sets a hook that is called on the worker's thread, with a function to call, for everything that may take long
    /// beside the functions: waiting for work, and sending. So it can let go of a lock meanwhile. The function returns
    /// after a signal and after a second, at the latest, while it waits for work, and is called again through the hook.
    /// An error ends the worker.
    #[must_use]
    pub fn on_wait<F, E>(mut self, hook: F) -> Self
    where
        F: Fn(&mut (dyn FnMut() + Send)) -> Result<(), E> + Send + 'static,
        E: Into<BoxError>,
    {
        let hook: WaitHook = Box::new(move |wait| hook(wait).map_err(Into::into));
        self.waiter = Waiter(Some(hook));
        self
    }

    /// Sets a hook that is called, on any thread, when the server is gone without having shut the worker down. It should
    /// end the process. Without a hook, or if it returns, the worker ends as it does otherwise: at once in the middle of
    /// an item, and by returning while it is idle.
    #[must_use]
    pub fn on_disconnect(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.disconnect_hook = Some(Box::new(hook));
        self
    }
}

impl fmt::Debug for Adapter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Adapter").field("sdk", &self.sdk).finish_non_exhaustive()
    }
}
