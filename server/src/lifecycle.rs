//! The phases of the server's end, for everything that has to know.
//!
//! Each phase is a token that is cancelled when the phase begins, in this order.

use tokio_util::sync::CancellationToken;

/// The phases of the server's end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lifecycle {
    /// New calls are refused. Clients are asked to connect anew; calls in progress go on.
    pub(crate) draining: CancellationToken,
    /// No call is left. No connection is accepted any more, and those there are close as soon as all is sent.
    pub(crate) closing: CancellationToken,
    /// Every connection is cut.
    pub(crate) killed: CancellationToken,
}
