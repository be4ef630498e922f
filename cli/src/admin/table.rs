//! The state of a pool as a table for people, and what tables of others are made of.

use procpool_client::admin::{Duration, PoolSnapshot, Worker};
use serde::Serialize;

use crate::print::json_value;
use crate::text::{one_line, shorten};

/// Returns the table, with rows of at most `max_width` columns, and below it the totals.
pub(super) fn of_pool(pool: &PoolSnapshot, max_width: Option<usize>) -> String {
    let mut rows = vec![["WORKER", "SLOT", "PID", "STATE", "AGE", "ITEMS", "RSS", "CPU", "RUNS"].map(str::to_owned)];
    rows.extend(pool.workers.iter().map(row));
    let mut lines = Vec::new();
    let version = match pool.server_version.as_str() {
        "" => String::new(),
        version => format!("procpool {version}: "),
    };
    let restarting = if pool.restarting { ", restarting" } else { "" };
    // The pool counts those of jobs that go on; a worker finishes what it has begun of a job that has ended.
    let is_of_ended_job = |worker: &&Worker| worker.running.as_ref().is_some_and(|running| running.function.is_empty());
    let ended = match pool.workers.iter().filter(is_of_ended_job).count() {
        0 => String::new(),
        count => format!(" and {count} of jobs that have ended"),
    };
    lines.push(format!(
        "{version}pool {} is {}{restarting}: {} slots, {} jobs, {} items queued, {} running{ended}; {} workers started so far",
        pool.name,
        word(pool.state()),
        pool.num_slots,
        pool.num_jobs,
        pool.num_queued_items,
        pool.num_running_items,
        pool.workers_started_total,
    ));
    if let Some(counts) = &pool.counts {
        lines.push(format!(
            "so far: {} jobs ({} failed or cancelled); {} items succeeded, {} failed, {} dropped",
            counts.jobs_total,
            counts.jobs_failed_total,
            counts.items_succeeded_total,
            counts.items_failed_total,
            counts.items_dropped_total,
        ));
    }
    if let Some(limits) = &pool.limits {
        lines.push(format!(
            "held: {} of {} items, {:.1} of {:.0} MiB",
            pool.num_held_items,
            limits.max_queued_items,
            mebibytes(pool.held_bytes),
            mebibytes(limits.max_queued_bytes),
        ));
    }
    if !pool.last_start_failure.is_empty() {
        lines.push(format!("last failed start: {}", pool.last_start_failure));
    }
    if !pool.held_slots.is_empty() {
        let slots: Vec<String> = pool.held_slots.iter().map(u32::to_string).collect();
        lines.push(format!("slots held back, since their workers die: {}", slots.join(", ")));
    }
    with_lines_below(&rows, &lines, max_width)
}

/// Returns aligned rows, the titles first, of at most `max_width` columns, and lines below them. The rows are cut; the lines
/// are read to the end.
pub(super) fn with_lines_below<const N: usize>(
    rows: &[[String; N]],
    lines: &[String],
    max_width: Option<usize>,
) -> String {
    let width_of = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width_of);
    let table = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        shorten(cells.collect::<Vec<_>>().join("  ").trim_end(), max_width.unwrap_or(usize::MAX))
    });
    let below = lines.iter().map(|line| one_line(line).into_owned());
    table.chain([String::new()]).chain(below).flat_map(|line| [line, "\n".to_owned()]).collect()
}

fn row(worker: &Worker) -> [String; 9] {
    let runs = worker.running.as_ref().map_or_else(String::new, |running| match running.function.as_str() {
        "" => format!("item {} of job {}, which has ended", running.first_index, running.job),
        function => format!("{}[{}] of job {}", one_line(function), running.first_index, running.job),
    });
    [
        worker.worker_id.to_string(),
        worker.slot.to_string(),
        worker.pid.to_string(),
        word(worker.state()),
        worker.age.as_ref().map_or_else(String::new, seconds),
        worker.num_finished_items.to_string(),
        format!("{:.1} MiB", mebibytes(worker.rss_bytes)),
        worker.cpu_time.as_ref().map_or_else(String::new, seconds),
        runs,
    ]
}

/// Returns the word that stands for a state, as in JSON.
fn word(state: impl Serialize) -> String {
    json_value(&state).as_str().unwrap_or_default().to_owned()
}

#[expect(clippy::cast_precision_loss, reason = "it is for reading")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[expect(clippy::cast_precision_loss, reason = "it is for reading")]
fn as_seconds(duration: &Duration) -> f64 {
    duration.seconds as f64 + f64::from(duration.nanos) / 1e9
}

/// Returns a length of time as two units at most: `4.2 s`, `17m 13s`, `3d 4h`.
pub(super) fn seconds(duration: &Duration) -> String {
    let whole = duration.seconds;
    match whole {
        ..60 => format!("{:.1} s", as_seconds(duration)),
        60..3_600 => format!("{}m {}s", whole / 60, whole % 60),
        3_600..86_400 => format!("{}h {}m", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{}d {}h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use procpool_client::admin::{PoolCounts, RunningItems};

    use super::*;

    fn worker(function: &str) -> Worker {
        let running = RunningItems { job: 4, function: function.to_owned(), first_index: 0, count: 1 };
        Worker { worker_id: 1, pid: 77, running: Some(running), ..Worker::default() }
    }

    #[test]
    fn an_item_of_a_job_that_has_ended_is_told_as_one() {
        let pool = PoolSnapshot { name: "p".to_owned(), workers: vec![worker("")], ..PoolSnapshot::default() };
        let text = of_pool(&pool, None);
        assert!(text.contains("item 0 of job 4, which has ended"), "{text}");
        assert!(text.contains("0 running and 1 of jobs that have ended"), "{text}");
    }

    #[test]
    fn calls_that_failed_are_not_told_as_unanswered() {
        let counts = PoolCounts { jobs_total: 30, jobs_failed_total: 22, ..PoolCounts::default() };
        let text = of_pool(&PoolSnapshot { counts: Some(counts), ..PoolSnapshot::default() }, None);
        assert!(text.contains("so far: 30 jobs (22 failed or cancelled)"), "{text}");
    }

    #[test]
    fn rows_are_cut_and_texts_escaped() {
        let failure = "worker\u{1b}[31m said\nno, and a long explanation that nobody should miss".to_owned();
        let workers = vec![worker("a\u{1b}[m_function_of_a_long_name")];
        let pool = PoolSnapshot { workers, last_start_failure: failure, ..PoolSnapshot::default() };
        let text = of_pool(&pool, Some(60));
        assert!(!text.contains('\u{1b}'), "{text}");
        let rows: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
        assert!(rows.len() == 2 && rows.iter().all(|row| row.chars().count() <= 60), "{text}");
        assert!(text.ends_with("said\\nno, and a long explanation that nobody should miss\n"), "{text}");
    }

    #[test]
    fn times_are_for_people() {
        let times =
            [4, 59, 1_033, 3_725, 90_061].map(|whole| seconds(&Duration { seconds: whole, nanos: 250_000_000 }));
        assert_eq!(times, ["4.2 s", "59.2 s", "17m 13s", "1h 2m", "1d 1h"]);
    }
}
