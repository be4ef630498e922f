//! Sends nothing.

use procpool_test_workers::HandWorker;

fn main() -> std::io::Result<()> {
    HandWorker::connect()?.wait_for_end()
}
