//! Cancels the running item when a cancel names an item that has already ended.

use std::io;
use std::time::{Duration, Instant};

use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame;
use procpool_ipc::proto::{FailureKind, Function, Hello, ItemFailure, ItemKind, Ready, Recalled, Results, Run};
use procpool_items::{Records, value};
use procpool_test_workers::HandWorker;

fn main() -> io::Result<()> {
    let mut worker = HandWorker::connect()?;
    let uses_progress_page = worker.page.is_some();
    worker.send(Frame::Hello(Hello {
        protocol_version: 1,
        sdk: "by hand".to_owned(),
        pid: std::process::id(),
        functions: ["echo", "sleep_ms"].map(|name| Function { name: name.to_owned(), ..Function::default() }).into(),
        uses_progress_page,
        ..Hello::default()
    }))?;
    worker.send(Frame::Ready(Ready {}))?;
    while let Some(run) = worker.next_run()? {
        let mut count = run.count;
        let mut offset = 0;
        while offset < count {
            worker.begin(&run, offset);
            let mut results = HandWorker::echo_one(&run, offset);
            if run.function == "sleep_ms" && !sleep(&mut worker, &run, offset, &mut count)? {
                results = cancelled(&run, offset);
            }
            worker.send(Frame::Results(results))?;
            offset += 1;
        }
    }
    Ok(())
}

/// Waits for the duration in the item. Returns `false` if it is cancelled.
fn sleep(worker: &mut HandWorker, run: &Run, offset: u32, count: &mut u32) -> io::Result<bool> {
    let item = Records::new(&run.items).nth(offset as usize).and_then(Result::ok).unwrap_or_default();
    let milliseconds: u64 = value::from_bytes(item).map_err(io::Error::other)?;
    let end = Instant::now() + Duration::from_millis(milliseconds);
    loop {
        let rest = end.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Ok(true);
        }
        if let Some(ServerFrame::Recall(recall)) = worker.next_frame_within(rest)?
            && recall.chunk == run.chunk
        {
            *count = offset + 1;
            worker.send(Frame::Recalled(Recalled { chunk: run.chunk, first_not_begun: *count }))?;
            if recall.cancel {
                return Ok(false);
            }
        }
    }
}

fn cancelled(run: &Run, offset: u32) -> Results {
    let failure = ItemFailure {
        offset,
        kind: FailureKind::Raised.into(),
        r#type: "Cancelled".to_owned(),
        message: "it was told to end".to_owned(),
        ..ItemFailure::default()
    };
    debug_assert_eq!(run.kind(), ItemKind::Values, "a number of milliseconds is a value");
    let items = vec![0x0a, 2, 0x08, 0].into();
    Results { chunk: run.chunk, first: offset, count: 1, failures: vec![failure], items, ..Results::default() }
}
