//! Waits for a recall, answers that only one item has begun, and then sends the results of all.

use procpool_ipc::proto::Recalled;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_test_workers::HandWorker;

fn main() -> std::io::Result<()> {
    let mut worker = HandWorker::start()?;
    if let Some(run) = worker.next_run()? {
        worker.begin(&run, 0);
        while let Some(frame) = worker.next_frame()? {
            if let ServerFrame::Recall(recall) = frame {
                worker.send(WorkerFrame::Recalled(Recalled { chunk: recall.chunk, first_not_begun: 1 }))?;
                worker.send(WorkerFrame::Results(HandWorker::echo(&run)))?;
            }
        }
    }
    Ok(())
}
