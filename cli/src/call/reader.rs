//! Whoever reads our stdout, such as `head`: when it is gone, the call is for nobody.

use std::io;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::exit::{Exit, Failure};
use crate::list_args::OutputFormat;
use crate::output::OutputError;

/// Runs a call until it ends or nobody reads what it prints. The next result would tell that too, but may be far away.
pub(super) async fn while_read(
    call: impl Future<Output = Result<Exit, Failure>>,
    format: OutputFormat,
) -> Result<Exit, Failure> {
    if format == OutputFormat::Quiet {
        return call.await;
    }
    tokio::select! {
        biased;
        result = call => result,
        () = reader_is_gone() => Err(OutputError::Closed.into()),
    }
}

/// Returns when stdout is a pipe and its other end is closed.
async fn reader_is_gone() {
    // What cannot be watched, such as a file, has no reader that goes away.
    if let Ok(stdout) = AsyncFd::with_interest(io::stdout(), Interest::ERROR)
        && stdout.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
