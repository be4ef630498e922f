//! If there is a file `large` in its directory, it allocates 64 MiB for each chunk before it begins it, and takes a
//! second for that, in which it answers a recall. After the chunk it keeps the memory.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use procpool_ipc::proto::Recalled;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_test_workers::HandWorker;

const BYTES: usize = 64 << 20;
/// Several times the interval in which the server checks its memory.
const TIME: Duration = Duration::from_secs(1);

fn main() -> std::io::Result<ExitCode> {
    let mut worker = HandWorker::start()?;
    let mut kept: Vec<Vec<u8>> = Vec::new();
    'chunks: while let Some(run) = worker.next_run()? {
        let mut begins_at = Instant::now();
        if std::fs::exists("large")? {
            // Not zeros: those would take no memory.
            kept.push(vec![1; BYTES]);
            begins_at += TIME;
        }
        while let Some(left) = begins_at.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            match worker.next_frame_within(left)? {
                Some(ServerFrame::Recall(recall)) => {
                    let answer = Recalled { chunk: recall.chunk, first_not_begun: 0 };
                    worker.send(WorkerFrame::Recalled(answer))?;
                    continue 'chunks;
                }
                Some(ServerFrame::Shutdown(_)) => return Ok(ExitCode::SUCCESS),
                _ => {}
            }
        }
        for offset in 0..run.count {
            worker.begin(&run, offset);
            worker.send(WorkerFrame::Results(HandWorker::echo_one(&run, offset)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
