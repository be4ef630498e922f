//! The phases of the server's end.

use tokio_util::sync::CancellationToken;

/// The phases of the server's end. Each is a token that is cancelled when the phase begins, in this order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lifecycle {
    /// An operator asked for the end; what follows is as for a signal.
    pub(crate) drain_requested: CancellationToken,
    /// New calls are refused. Clients are asked to connect anew; calls in progress go on.
    pub(crate) draining: CancellationToken,
    /// No call is left. No connection is accepted any more, and open ones close as soon as everything is sent.
    pub(crate) closing: CancellationToken,
    /// Every connection is cut.
    pub(crate) killed: CancellationToken,
}
