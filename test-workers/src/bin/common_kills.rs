//! Takes common arguments, and exits with code 9 when it gets one that is a long text: before it begins an item of that
//! chunk or, if there is a file `begins_first` where it runs, in it. Otherwise it echoes.

use std::process::ExitCode;

use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_ipc::proto::{Function, Hello, Ready};
use procpool_test_workers::HandWorker;

/// No other argument in a test is as long.
const LONG: usize = 1000;

fn main() -> std::io::Result<ExitCode> {
    let mut worker = HandWorker::connect()?;
    worker.send(WorkerFrame::Hello(Hello {
        protocol_version: 1,
        sdk: "by hand".to_owned(),
        pid: std::process::id(),
        functions: vec![Function { name: "echo".to_owned(), ..Function::default() }],
        uses_progress_page: true,
        takes_common: true,
        ..Hello::default()
    }))?;
    worker.send(WorkerFrame::Ready(Ready {}))?;
    let begins_first = std::fs::exists("begins_first")?;
    let mut is_poisoned = false;
    while let Some(frame) = worker.next_frame()? {
        match frame {
            ServerFrame::SetCommon(common) => is_poisoned |= common.value.len() > LONG,
            ServerFrame::Run(run) => {
                if is_poisoned && begins_first {
                    worker.begin(&run, 0);
                }
                if is_poisoned {
                    return Ok(ExitCode::from(9));
                }
                for offset in 0..run.count {
                    worker.begin(&run, offset);
                    worker.send(WorkerFrame::Results(HandWorker::echo_one(&run, offset)))?;
                }
            }
            ServerFrame::Shutdown(_) => break,
            _ => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}
