//! Answers a chunk with half a frame and exits with code 0.

use procpool_ipc::encode_worker_frame;
use procpool_ipc::proto::worker_frame::Frame;
use procpool_test_workers::HandWorker;

fn main() -> std::io::Result<()> {
    let mut worker = HandWorker::start()?;
    if let Some(run) = worker.next_run()? {
        worker.begin(&run, 0);
        let frame = encode_worker_frame(Frame::Results(HandWorker::echo(&run)));
        worker.send_raw(&frame[..frame.len() / 2])?;
    }
    Ok(())
}
