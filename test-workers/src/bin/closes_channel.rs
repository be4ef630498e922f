//! Closes its connection when it gets a chunk, but keeps running.

use std::time::Duration;

use procpool_test_workers::HandWorker;

fn main() -> std::io::Result<()> {
    let mut worker = HandWorker::start()?;
    if let Some(run) = worker.next_run()? {
        worker.begin(&run, 0);
        worker.close();
        std::thread::sleep(Duration::from_secs(60));
    }
    Ok(())
}
