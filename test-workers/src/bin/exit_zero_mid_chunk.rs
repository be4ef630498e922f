//! Exits with code 0 when the second item of a chunk has begun; the result of the first was sent.

use procpool_ipc::proto::worker_frame::Frame;
use procpool_test_workers::HandWorker;

fn main() -> std::io::Result<()> {
    let mut worker = HandWorker::start()?;
    if let Some(run) = worker.next_run()? {
        worker.begin(&run, 0);
        worker.send(Frame::Results(HandWorker::echo_one(&run, 0)))?;
        if run.count > 1 {
            worker.begin(&run, 1);
        }
    }
    Ok(())
}
