//! Answers every item with a `Value` of zero bytes.

use procpool_ipc::proto::Results;
use procpool_ipc::proto::worker_frame::Frame;
use procpool_test_workers::HandWorker;

fn main() -> std::io::Result<()> {
    let mut worker = HandWorker::start()?;
    while let Some(run) = worker.next_run()? {
        worker.begin(&run, run.count - 1);
        let items = b"\x0a\x00".repeat(run.count as usize).into();
        worker.send(Frame::Results(Results { items, ..HandWorker::echo(&run) }))?;
    }
    Ok(())
}
