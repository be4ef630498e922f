//! Uses no progress page and behaves correctly: sends Started before each item. Its function `crash` kills it at the
//! second item.

use procpool_ipc::proto::worker_frame::Frame;
use procpool_ipc::proto::{Function, Hello, Ready, Started};
use procpool_test_workers::HandWorker;
use rustix::process::Signal;

fn main() -> std::io::Result<()> {
    let mut worker = HandWorker::connect()?;
    worker.send(Frame::Hello(Hello {
        protocol_version: 1,
        sdk: "by hand".to_owned(),
        pid: std::process::id(),
        functions: ["crash", "echo"].map(|name| Function { name: name.to_owned(), ..Function::default() }).into(),
        uses_progress_page: false,
        takes_common: false,
        ..Hello::default()
    }))?;
    worker.send(Frame::Ready(Ready {}))?;
    while let Some(run) = worker.next_run()? {
        for offset in 0..run.count {
            worker.send(Frame::Started(Started { chunk: run.chunk, offset }))?;
            if run.function == "crash" && offset == 1 {
                rustix::process::kill_process(rustix::process::getpid(), Signal::KILL)?;
            }
            worker.send(Frame::Results(HandWorker::echo_one(&run, offset)))?;
        }
    }
    Ok(())
}
