//! Runs out of memory while it decodes a large item, before the item has begun.

use std::io;

use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_test_workers::HandWorker;

fn main() -> io::Result<()> {
    let mut worker = HandWorker::start()?;
    while let Some(run) = worker.next_run()? {
        if run.items.len() > 1 << 20 {
            std::process::exit(3);
        }
        for offset in 0..run.count {
            worker.begin(&run, offset);
        }
        worker.send(WorkerFrame::Results(HandWorker::echo(&run)))?;
    }
    Ok(())
}
