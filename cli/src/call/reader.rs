//! Ends a call when the reader of stdout, such as `head`, is gone.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;

use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

use crate::exit::{Exit, Failure};
use crate::list_args::{OutputArgs, OutputFormat};
use crate::print::OutputError;

/// Runs a call until it ends or the reader of stdout is gone. Writing the next result would fail too, but that may come
/// late.
pub(super) async fn while_read(
    call: impl Future<Output = Result<Exit, Failure>>,
    output: &OutputArgs,
) -> Result<Exit, Failure> {
    if output.output == OutputFormat::Quiet || output.output_file.is_some() {
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
    // Nothing is written through it, so stdout stays blocking. What cannot be watched, such as a file, has no reader
    // that goes away.
    let watched = io::stdout().as_fd().try_clone_to_owned().map(File::from).and_then(Sender::from_file_unchecked);
    if let Ok(stdout) = watched
        && stdout.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}
