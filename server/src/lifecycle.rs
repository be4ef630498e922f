//! Ends that others bring about: of the server, in phases, and of one call.

use tokio_util::sync::CancellationToken;

tokio::task_local! {
    /// Cancelling it cuts the call whose task this is: its stream is reset, and all that it holds is dropped. The task
    /// itself may be waiting for a client that does nothing.
    pub(crate) static CUT_CALL: CancellationToken;
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
