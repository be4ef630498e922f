//! Answers a chunk with results of another chunk that does not exist.

use procpool_ipc::proto::Results;
use procpool_ipc::proto::worker_frame::Frame;
use procpool_test_workers::HandWorker;

fn main() -> std::io::Result<()> {
    let mut worker = HandWorker::start()?;
    if let Some(run) = worker.next_run()? {
        worker.begin(&run, 0);
        worker.send(Frame::Results(Results { chunk: run.chunk + 1000, ..HandWorker::echo(&run) }))?;
    }
    worker.wait_for_end()
}
