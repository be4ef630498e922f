//! Answers every chunk twice.

use procpool_ipc::proto::worker_frame::Frame;
use procpool_test_workers::HandWorker;

fn main() -> std::io::Result<()> {
    let mut worker = HandWorker::start()?;
    while let Some(run) = worker.next_run()? {
        worker.begin(&run, run.count - 1);
        worker.send(Frame::Results(HandWorker::echo(&run)))?;
        worker.send(Frame::Results(HandWorker::echo(&run)))?;
    }
    Ok(())
}
