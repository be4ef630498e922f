//! Workers that run in a thread of the test.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use procpool_test_workers::{FakeServer, JOURNAL_BYTES};
use procpool_worker::{Worker, WorkerError};

/// Runs a worker in a thread of this process.
pub(crate) fn start(worker: Worker) -> (FakeServer, JoinHandle<Result<(), WorkerError>>) {
    start_with(worker, procpool_ipc::DEFAULT_MAX_FRAME_BYTES, JOURNAL_BYTES)
}

pub(crate) fn start_with(
    worker: Worker,
    max_frame_bytes: u32,
    journal_bytes: u32,
) -> (FakeServer, JoinHandle<Result<(), WorkerError>>) {
    let (server, thread) = start_unwelcomed(worker);
    (FakeServer::welcome(server, max_frame_bytes, journal_bytes), thread)
}

pub(crate) fn start_unwelcomed(worker: Worker) -> (UnixStream, JoinHandle<Result<(), WorkerError>>) {
    let (server, socket) = UnixStream::pair().expect("descriptors are available");
    (server, std::thread::spawn(move || worker.run_on(OwnedFd::from(socket))))
}
