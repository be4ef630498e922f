//! The state of a pool, as a table for people and as JSON for programs.

use std::collections::BTreeMap;

use procpool_client::admin::{
    MemoryEnforcement, PoolCounts, PoolLimits, PoolSnapshot, PoolState, SlotCounts, Worker, WorkerState,
};
use serde_json::{Value, json};

pub(super) fn as_table(pool: &PoolSnapshot) -> String {
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
        "\npool {} is {}{restarting}: {} slots, {} jobs, {} items queued, {} running; {} workers started so far\n",
        pool.name,
        pool_state(pool),
        pool.num_slots,
        pool.num_jobs,
        pool.num_queued_items,
        pool.num_running_items,
        pool.workers_started_total,
    );
    text.push_str(&summary);
    if let Some(counts) = &pool.counts {
        let all = format!(
            "so far: {} jobs ({} without an answer); {} items succeeded, {} failed, {} dropped\n",
            counts.jobs_total,
            counts.jobs_failed_total,
            counts.items_succeeded_total,
            counts.items_failed_total,
            counts.items_dropped_total,
        );
        text.push_str(&all);
    }
    if let Some(limits) = &pool.limits {
        let held = format!(
            "held: {} of {} items, {:.1} of {:.0} MiB\n",
            pool.num_held_items,
            limits.max_queued_items,
            mebibytes(pool.held_bytes),
            mebibytes(limits.max_queued_bytes),
        );
        text.push_str(&held);
    }
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

pub(super) fn as_json(pool: &PoolSnapshot) -> Value {
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
        "name": pool.name,
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
        "num_held_items": pool.num_held_items,
        "held_bytes": pool.held_bytes,
        "limits": pool.limits.as_ref().map(limits_as_json),
        "slots": pool.slots.as_ref().map(slots_as_json),
        "counts": pool.counts.as_ref().map(counts_as_json),
        "workers": workers.collect::<Vec<_>>(),
    })
}

/// `null`: there is no limit.
fn limits_as_json(limits: &PoolLimits) -> Value {
    let max_items_per_worker = Some(limits.max_items_per_worker).filter(|&most| most > 0);
    json!({
        "max_queued_items": limits.max_queued_items,
        "max_queued_bytes": limits.max_queued_bytes,
        "item_timeout_seconds": limits.item_timeout.as_ref().map(as_seconds),
        "worker_start_timeout_seconds": limits.worker_start_timeout.as_ref().map(as_seconds),
        "cancel_grace_period_seconds": limits.cancel_grace_period.as_ref().map(as_seconds),
        "kill_grace_period_seconds": limits.kill_grace_period.as_ref().map(as_seconds),
        "max_items_per_worker": max_items_per_worker,
        "max_worker_age_seconds": limits.max_worker_age.as_ref().map(as_seconds),
        "idle_timeout_seconds": limits.idle_timeout.as_ref().map(as_seconds),
        "crash_limit": limits.crash_limit,
    })
}

fn slots_as_json(slots: &SlotCounts) -> Value {
    let SlotCounts { starting, ready, busy, stopping, empty } = slots;
    json!({"starting": starting, "ready": ready, "busy": busy, "stopping": stopping, "empty": empty})
}

fn counts_as_json(counts: &PoolCounts) -> Value {
    json!({
        "jobs_total": counts.jobs_total,
        "jobs_failed_total": counts.jobs_failed_total,
        "items_succeeded_total": counts.items_succeeded_total,
        "items_failed_total": counts.items_failed_total,
        "items_dropped_total": counts.items_dropped_total,
        "worker_exits_total": counts.worker_exits_total.iter().collect::<BTreeMap<_, _>>(),
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
