//! Exits with code 7 soon after it was ready, until there is a file `healed` in its directory; then it behaves
//! correctly.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use procpool_ipc::proto::worker_frame::Frame;
use procpool_test_workers::HandWorker;

/// Long enough for the server to see it ready.
const LIFE: Duration = Duration::from_millis(50);

#[expect(clippy::print_stderr, reason = "what a program says before it fails")]
fn main() -> std::io::Result<ExitCode> {
    let mut worker = HandWorker::start()?;
    if !std::fs::exists("healed")? {
        sleep(LIFE);
        eprintln!("lost the database");
        return Ok(ExitCode::from(7));
    }
    while let Some(run) = worker.next_run()? {
        for offset in 0..run.count {
            worker.begin(&run, offset);
            worker.send(Frame::Results(HandWorker::echo_one(&run, offset)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
