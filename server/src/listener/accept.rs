//! Accepts connections, within their limit, and without spinning when that fails.

use std::io;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bound::{Accepted, BoundListener};
use super::connections::{ConnectionPermit, Connections};

/// How long to wait when the system lacks a resource, such as file descriptors.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Accepts connections until `closed` is cancelled, and serves each in a task that `tasks` owns.
///
/// A connection is accepted before it has its permit, so that a listener which nobody connects to takes none. While one
/// waits for its permit, others wait in the kernel's queue.
pub(crate) async fn accept_connections<F: Future<Output = ()> + Send + 'static>(
    mut listener: BoundListener,
    connections: Connections,
    closed: CancellationToken,
    tasks: TaskTracker,
    serve: impl Fn(Accepted, ConnectionPermit) -> F,
) {
    let accept_forever = async {
        let mut is_failing = false;
        loop {
            match listener.accept().await {
                Ok(accepted) => {
                    is_failing = false;
                    let permit = connections.enter(listener.address()).await;
                    tasks.spawn(serve(accepted, permit));
                }
                Err(error) if is_about_one_connection(&error) => {
                    tracing::debug!(%error, "a connection was lost early");
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(%error, address = %listener.address(), "cannot accept connections, trying again");
                    }
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    };
    closed.run_until_cancelled(accept_forever).await;
}

/// Returns whether the error concerns one connection only, so that the next accept may succeed.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
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
