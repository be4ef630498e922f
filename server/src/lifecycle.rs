//! Ends that others bring about: of the server, in phases, and of one call.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::rpc::response_body::CallWatch;

tokio::task_local! {
    /// Where the call whose task this is says that it waits for its reader. After too long a wait it is given up: its
    /// stream is reset, and all that it holds is dropped.
    pub(crate) static CALL: Arc<CallWatch>;
}

/// The phases of the server's end. Each is a token that is cancelled when the phase begins, in this order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lifecycle {
    /// Somebody who may asked for the end; what follows is as for a signal.
    pub(crate) drain_requested: CancellationToken,
    /// New calls are refused. Clients are asked to connect anew; calls in progress go on.
    pub(crate) draining: CancellationToken,
    /// No call is left. No connection is accepted any more, and those there are close as soon as all is sent.
    pub(crate) closing: CancellationToken,
    /// Every connection is cut.
    pub(crate) killed: CancellationToken,
}
