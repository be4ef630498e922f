//! Exits with code 9 when it gets a chunk, before it begins it, if its slot is bad: if there is a file `bad_slot_N`
//! where it runs, with the number of its slot. Otherwise it behaves correctly.

use std::process::ExitCode;

use procpool_ipc::proto::worker_frame::Frame;
use procpool_test_workers::HandWorker;

fn main() -> std::io::Result<ExitCode> {
    let mut worker = HandWorker::start()?;
    let mark = format!("bad_slot_{}", worker.welcome.slot);
    while let Some(run) = worker.next_run()? {
        if std::fs::exists(&mark)? {
            return Ok(ExitCode::from(9));
        }
        for offset in 0..run.count {
            worker.begin(&run, offset);
            worker.send(Frame::Results(HandWorker::echo_one(&run, offset)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
