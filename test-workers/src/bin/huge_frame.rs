//! Answers a chunk with a frame that claims to have 4 GiB.

use procpool_test_workers::HandWorker;

fn main() -> std::io::Result<()> {
    let mut worker = HandWorker::start()?;
    if let Some(run) = worker.next_run()? {
        worker.begin(&run, 0);
        worker.send_raw(b"\xff\xff\xff\xff\x22")?;
    }
    worker.wait_for_end()
}
