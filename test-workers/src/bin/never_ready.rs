//! Sends Hello, but never Ready.

use procpool_test_workers::HandWorker;

fn main() -> std::io::Result<()> {
    let mut worker = HandWorker::connect()?;
    worker.say_hello(true)?;
    worker.wait_for_end()
}
