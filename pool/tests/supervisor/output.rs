//! What workers print becomes log lines, and never a burden.

use std::fmt::{Debug, Write as _};
use std::sync::{Mutex, Once};

use procpool_pool::WorkerExit;
use procpool_pool::supervisor::WorkerCommand;
use tracing::field::{Field, Visit};
use tracing::span;

use crate::support::Worker;

/// The lines that the workers of this process printed, with the level in front and the fields behind.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Records log lines of worker output.
struct Recorder;

impl tracing::Subscriber for Recorder {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "procpool::worker_output"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        LINES.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

fn record_lines() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Recorder).unwrap());
}

/// Returns what this worker printed so far, but for the lines of the test harness in it.
fn lines_of(worker: u64) -> Vec<String> {
    let is_of_worker = format!(" worker={worker} ");
    let lines = LINES.lock().unwrap();
    lines.iter().filter(|line| line.contains(&is_of_worker) && !line.contains("running 1 test")).cloned().collect()
}

#[tokio::test]
async fn lines_carry_worker_job_and_item() {
    record_lines();
    let mut worker = Worker::in_role("print");
    let pid = worker.ready().await;
    let id = worker.id.generation;
    worker.run(1, &[b"hello", b"again"]).await;
    for item in 0..2 {
        // It waits for this before it prints.
        std::fs::write(worker.file(&format!("print_{item}")), "").unwrap();
        worker.results().await;
    }
    worker.run(2, &[b"third"]).await;
    worker.results().await;
    worker.command(WorkerCommand::Shutdown).await;
    let exited = worker.exited().await;
    assert_eq!(exited.exit, WorkerExit::Code(0));
    let complaint = "\\u{1b}[31mand complains";
    assert_eq!(exited.stderr_tail, [complaint; 3].join("\n"));

    let lines = lines_of(id);
    for (text, job, item) in [("hello", 1001, 500), ("again", 1001, 501), ("third", 1002, 500)] {
        let chunk = job - 1000;
        let fields = format!("worker={id} slot=3 pid={pid} stream=\"stdout\" job={job} chunk={chunk} item={item}");
        let line = format!("item says {text} {fields}");
        assert!(
            lines.iter().any(|logged| logged.starts_with("INFO") && logged.ends_with(&line)),
            "{line} in {lines:#?}"
        );
    }
    let warnings = lines.iter().filter(|line| line.starts_with("WARN") && line.contains("and complains")).count();
    assert_eq!(warnings, 3, "{lines:?}");
}

#[tokio::test]
async fn a_flood_is_drained_capped_and_counted() {
    record_lines();
    let mut worker = Worker::in_role("flood");
    worker.ready().await;
    let id = worker.id.generation;
    worker.run(1, &[b"x"]).await;
    // It has written a quarter of a gigabyte before it answers.
    worker.results().await;
    worker.command(WorkerCommand::Shutdown).await;
    let exited = worker.exited().await;
    assert_eq!(exited.exit, WorkerExit::Code(0));
    assert!(exited.stderr_tail.ends_with("\nthe last words"), "the end of stderr is kept");
    assert!(exited.stderr_tail.len() <= 4096);

    let lines = lines_of(id);
    assert_eq!(lines.iter().filter(|line| line.contains("xxx … (line cut) ")).count(), 2);
    assert!(lines.iter().all(|line| line.len() < 9_000));
    let short = lines.iter().filter(|line| line.contains("a short line")).count();
    let dropped: usize = lines
        .iter()
        .filter_map(|line| line.split("dropped_lines=").nth(1)?.split(' ').next()?.parse::<usize>().ok())
        .sum();
    assert!(dropped > 0 && short < 50_000, "{short} lines logged, {dropped} dropped");
    let last_words = lines.iter().filter(|line| line.contains("the last words")).count();
    assert!((100_000..=100_001).contains(&(short + dropped + last_words)), "{short} + {dropped} + {last_words}");
}
