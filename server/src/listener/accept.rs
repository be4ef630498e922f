//! Accepting connections, no more than may be open, and without spinning when that fails.

use std::io;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::{BoundListener, Serving, Socket, connection};
use crate::operators::Peer;

/// How long to wait when the system is out of something, such as file descriptors.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Accepts connections until the server closes.
pub(crate) async fn accept_connections(listener: BoundListener, serving: Serving) {
    let closing = serving.lifecycle.closing.clone();
    tokio::select! {
        () = closing.cancelled() => {}
        () = accept_forever(&listener, &serving) => {}
    }
}

async fn accept_forever(listener: &BoundListener, serving: &Serving) {
    let mut is_failing = false;
    // The semaphore is never closed. Over the limit, clients wait in the kernel's queue.
    while let Ok(permit) = serving.permits.clone().acquire_owned().await {
        match listener.accept(serving, permit).await {
            Ok(()) => is_failing = false,
            Err(error) if is_about_one_connection(&error) => tracing::debug!(%error, "a connection was lost early"),
            Err(error) => {
                if !is_failing {
                    tracing::warn!(%error, address = %listener.address, "cannot accept connections, trying again");
                }
                is_failing = true;
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Tells whether the next accept may well succeed.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

impl BoundListener {
    /// Accepts one connection and starts to serve it.
    async fn accept(&self, serving: &Serving, permit: OwnedSemaphorePermit) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // A call waits for every round trip; a socket that cannot do without the delay still works.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, %peer, "cannot set TCP_NODELAY");
                }
                serving.connections.spawn(connection::serve(stream, Peer::Tcp(peer), serving.clone(), permit));
            }
            Socket::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let peer = Peer::Unix { uid: stream.peer_cred().ok().map(|user| user.uid()) };
                serving.connections.spawn(connection::serve(stream, peer, serving.clone(), permit));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn only_what_is_about_one_connection_is_retried_at_once() {
        let is_retried_at_once = |errno: Errno| is_about_one_connection(&io::Error::from(errno));
        assert!(is_retried_at_once(Errno::CONNABORTED));
        assert!(is_retried_at_once(Errno::INTR));
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::PERM] {
            assert!(!is_retried_at_once(errno), "{errno}");
        }
    }
}
