//! Answers a chunk with one result more than it has items.

use procpool_ipc::proto::Results;
use procpool_ipc::proto::worker_frame::Frame;
use procpool_test_workers::HandWorker;

fn main() -> std::io::Result<()> {
    let mut worker = HandWorker::start()?;
    if let Some(run) = worker.next_run()? {
        worker.begin(&run, run.count - 1);
        let items = [&run.items[..], b"\x0a\x02\x08\x00"].concat().into();
        worker.send(Frame::Results(Results { count: run.count + 1, items, ..HandWorker::echo(&run) }))?;
    }
    worker.wait_for_end()
}
