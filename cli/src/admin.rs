//! `procpool workers`, `resize`, `restart` and `drain`: what operators do.

use std::io::Write as _;

use procpool_client::admin::{MemoryEnforcement, PoolSnapshot, PoolState, Worker, WorkerState};
use serde_json::{Value, json};

use crate::args::{DrainArgs, DumpArgs, ResizeArgs, RestartArgs, WorkersArgs, WorkersCommand, WorkersOutput};
use crate::call::connect;
use crate::exit::{Exit, Failure};
use crate::output::OutputError;

/// Shows the pool and its workers.
pub(crate) async fn workers(args: WorkersArgs) -> Result<Exit, Failure> {
    if let Some(WorkersCommand::Dump(args)) = args.command {
        return dump(args).await;
    }
    let pool = connect(&args.server).await?.admin().of_pool(args.pool.pool).pool().await?;
    let text = match args.output {
        WorkersOutput::Table => as_table(&pool),
        WorkersOutput::Json => format!("{}\n", as_json(&pool)),
    };
    print(&text)
}

/// Shows where a worker is.
async fn dump(args: DumpArgs) -> Result<Exit, Failure> {
    let stacks = connect(&args.server).await?.admin().of_pool(args.pool.pool).dump_worker(args.worker).await?;
    print(&format!("{stacks}\n"))
}

/// Sets the number of slots.
pub(crate) async fn resize(args: ResizeArgs) -> Result<Exit, Failure> {
    let before = connect(&args.server).await?.admin().of_pool(args.pool.pool).resize(args.slots).await?;
    print(&format!("{before} → {} slots\n", args.slots))
}

/// Replaces every worker.
pub(crate) async fn restart(args: RestartArgs) -> Result<Exit, Failure> {
    let admin = connect(&args.server).await?.admin().of_pool(args.pool);
    let replaced = admin.restart_workers(args.server.timeout).await?;
    print(&format!("{replaced} workers replaced\n"))
}

/// Has the server end in order.
pub(crate) async fn drain(args: DrainArgs) -> Result<Exit, Failure> {
    connect(&args.server).await?.admin().drain().await?;
    print("the server is draining\n")
}

fn print(text: &str) -> Result<Exit, Failure> {
    std::io::stdout().write_all(text.as_bytes()).map_err(OutputError::from)?;
    Ok(Exit::Ok)
}

fn as_table(pool: &PoolSnapshot) -> String {
    let mut rows = vec![["WORKER", "SLOT", "PID", "STATE", "AGE", "ITEMS", "RSS", "CPU", "RUNS"].map(str::to_owned)];
    rows.extend(pool.workers.iter().map(row));
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    let restarting = if pool.restarting { ", restarting" } else { "" };
    let summary = format!(
        "\npool is {}{restarting}: {} slots, {} jobs, {} items queued, {} running; {} workers started so far\n",
        pool_state(pool),
        pool.num_slots,
        pool.num_jobs,
        pool.num_queued_items,
        pool.num_running_items,
        pool.workers_started_total,
    );
    text.push_str(&summary);
    if !pool.last_start_failure.is_empty() {
        text.extend(["last failed start: ", &pool.last_start_failure, "\n"]);
    }
    if !pool.held_slots.is_empty() {
        let slots: Vec<String> = pool.held_slots.iter().map(u32::to_string).collect();
        text.extend(["slots held back, since their workers die: ", &slots.join(", "), "\n"]);
    }
    text
}

fn row(worker: &Worker) -> [String; 9] {
    let runs = worker.running.as_ref().map_or_else(String::new, |running| {
        format!("{}[{}] of job {}", running.function, running.first_index, running.job)
    });
    [
        worker.worker_id.to_string(),
        worker.slot.to_string(),
        worker.pid.to_string(),
        worker_state(worker).to_owned(),
        worker.age.as_ref().map_or_else(String::new, seconds),
        worker.num_finished_items.to_string(),
        format!("{:.1} MiB", mebibytes(worker.rss_bytes)),
        worker.cpu_time.as_ref().map_or_else(String::new, seconds),
        runs,
    ]
}

fn as_json(pool: &PoolSnapshot) -> Value {
    let workers = pool.workers.iter().map(|worker| {
        let running = worker.running.as_ref().map(|running| {
            json!({
                "job": running.job,
                "function": running.function,
                "first_index": running.first_index,
                "count": running.count,
            })
        });
        json!({
            "worker_id": worker.worker_id,
            "slot": worker.slot,
            "pid": worker.pid,
            "state": worker_state(worker),
            "age_seconds": worker.age.as_ref().map(as_seconds),
            "num_finished_items": worker.num_finished_items,
            "rss_bytes": worker.rss_bytes,
            "cpu_seconds": worker.cpu_time.as_ref().map(as_seconds),
            "running": running,
        })
    });
    json!({
        "state": pool_state(pool),
        "num_slots": pool.num_slots,
        "num_jobs": pool.num_jobs,
        "num_queued_items": pool.num_queued_items,
        "num_running_items": pool.num_running_items,
        "workers_started_total": pool.workers_started_total,
        "last_start_failure": pool.last_start_failure,
        "restarting": pool.restarting,
        "held_slots": pool.held_slots,
        "max_worker_memory_bytes": pool.max_worker_memory_bytes,
        "worker_memory_limit_bytes": pool.worker_memory_limit_bytes,
        "memory_enforcement": memory_enforcement(pool),
        "workers": workers.collect::<Vec<_>>(),
    })
}

fn memory_enforcement(pool: &PoolSnapshot) -> &'static str {
    match pool.memory_enforcement() {
        MemoryEnforcement::Unspecified => "unknown",
        MemoryEnforcement::None => "none",
        MemoryEnforcement::Monitor => "monitor",
    }
}

fn pool_state(pool: &PoolSnapshot) -> &'static str {
    match pool.state() {
        PoolState::Unspecified => "unknown",
        PoolState::Starting => "starting",
        PoolState::Ready => "ready",
        PoolState::Degraded => "degraded",
        PoolState::Draining => "draining",
        PoolState::Stopped => "stopped",
    }
}

fn worker_state(worker: &Worker) -> &'static str {
    match worker.state() {
        WorkerState::Unspecified => "unknown",
        WorkerState::Starting => "starting",
        WorkerState::Ready => "ready",
        WorkerState::Busy => "busy",
        WorkerState::Stopping => "stopping",
        WorkerState::Exited => "exited",
    }
}

#[expect(clippy::cast_precision_loss, reason = "it is for reading")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[expect(clippy::cast_precision_loss, reason = "it is for reading")]
fn as_seconds(duration: &procpool_client::admin::Duration) -> f64 {
    duration.seconds as f64 + f64::from(duration.nanos) / 1e9
}

fn seconds(duration: &procpool_client::admin::Duration) -> String {
    format!("{:.1} s", as_seconds(duration))
}
