//! Answers a chunk with a frame that is garbage.

use procpool_test_workers::HandWorker;

fn main() -> std::io::Result<()> {
    let mut worker = HandWorker::start()?;
    if let Some(run) = worker.next_run()? {
        worker.begin(&run, 0);
        worker.send_raw(b"\x00\x00\x00\x06\xff\xff\xff\xff\xff\xff")?;
    }
    worker.wait_for_end()
}
