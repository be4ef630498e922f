//! The jobs of a server as a table for people, and as JSON.

use procpool_client::admin::{Job, PoolSnapshot};
use serde_json::json;

use super::table::{seconds, with_lines_below};
use crate::print::json_value;
use crate::text::{self, one_line};

const TITLES: [&str; 14] = [
    "JOB", "STATE", "FUNCTION", "CALL", "ITEMS", "DONE", "FAILED", "RUNNING", "QUEUED", "AGE", "DEADLINE", "PRIORITY",
    "POOL", "REQUEST",
];

/// Returns a line for each job, at most `max_width` columns wide, and below them how many there are.
pub(super) fn as_table(pools: &[PoolSnapshot], max_width: Option<usize>) -> String {
    let mut rows = vec![TITLES.map(str::to_owned)];
    rows.extend(pools.iter().flat_map(|pool| pool.jobs.iter().map(|job| row(pool, job))));
    let below = pools.iter().map(|pool| {
        let PoolSnapshot { name, num_jobs, jobs, .. } = pool;
        let shown = if *num_jobs as usize > jobs.len() {
            format!(", the oldest {} are shown", jobs.len())
        } else {
            String::new()
        };
        format!("pool {name}: {num_jobs} jobs{shown}")
    });
    with_lines_below(&rows, &below.collect::<Vec<_>>(), max_width)
}

/// Returns a JSON object for each pool, one a line.
pub(super) fn as_json(pools: &[PoolSnapshot]) -> String {
    let lines = pools.iter().map(|pool| {
        let jobs = json!({"pool": pool.name, "num_jobs": pool.num_jobs, "jobs": json_value(&pool.jobs)});
        format!("{}\n", text::json(&jobs.to_string()))
    });
    lines.collect()
}

fn row(pool: &PoolSnapshot, job: &Job) -> [String; 14] {
    let more = if job.input_open { "+" } else { "" };
    [
        job.job.to_string(),
        state(job).to_owned(),
        one_line(&job.function).into_owned(),
        one_line(&job.method).into_owned(),
        format!("{}{more}", job.num_items),
        job.num_finished_items.to_string(),
        job.num_failed_items.to_string(),
        job.num_running_items.to_string(),
        job.num_queued_items.to_string(),
        job.age.as_ref().map_or_else(String::new, seconds),
        job.remaining_time.as_ref().map_or_else(String::new, seconds),
        job.priority.to_string(),
        one_line(&pool.name).into_owned(),
        one_line(&job.request_id).into_owned(),
    ]
}

fn state(job: &Job) -> &'static str {
    if job.waits_for_reader {
        "paused"
    } else if job.num_running_items > 0 {
        "running"
    } else if job.num_queued_items > 0 {
        "queued"
    } else {
        "idle"
    }
}

#[cfg(test)]
mod tests {
    use procpool_client::admin::Duration;

    use super::*;

    fn pool() -> PoolSnapshot {
        let age = Some(Duration { seconds: 4, nanos: 250_000_000 });
        let running = Job { job: 7, num_items: 9, num_running_items: 2, num_queued_items: 7, age, ..Job::default() };
        let names = Job { method: "IMapStream".to_owned(), function: "f\u{1b}[m".to_owned(), ..Job::default() };
        let jobs = vec![
            Job { method: "Map".to_owned(), function: "is_prime".to_owned(), remaining_time: age, ..running },
            Job { job: 8, num_items: 3, num_queued_items: 3, waits_for_reader: true, ..names.clone() },
            Job { job: 9, num_queued_items: 1, num_items: 1, ..names.clone() },
            Job { job: 10, input_open: true, request_id: "order 17".to_owned(), ..names },
        ];
        PoolSnapshot { name: "default".to_owned(), num_jobs: 150, jobs, ..PoolSnapshot::default() }
    }

    #[test]
    fn each_job_has_a_row_and_what_is_not_shown_is_counted() {
        let table = as_table(&[pool()], None);
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        let counts = ["9", "0", "0", "2", "7", "4.2", "s", "4.2", "s", "0", "default"];
        assert_eq!(rows[1], [&["7", "running", "is_prime", "Map"][..], &counts].concat());
        assert_eq!((rows[2][1], rows[3][1], rows[4][1], rows[4][4]), ("paused", "queued", "idle", "0+"));
        assert!(table.lines().nth(4).unwrap().ends_with("  default  order 17"), "{table}");
        assert!(table.ends_with("\n\npool default: 150 jobs, the oldest 4 are shown\n"), "{table}");
        assert!(!table.contains('\u{1b}'));
        assert!(as_table(&[pool()], Some(40)).lines().take(5).all(|row| row.chars().count() <= 40));
    }

    #[test]
    fn json_is_an_object_for_each_pool() {
        let text = as_json(&[pool(), PoolSnapshot::default()]);
        let [first, second] = text.lines().collect::<Vec<_>>().try_into().unwrap();
        let first: serde_json::Value = serde_json::from_str(first).unwrap();
        assert_eq!((&first["pool"], &first["num_jobs"]), (&json!("default"), &json!(150)));
        let job = &first["jobs"][0];
        assert_eq!(
            (&job["job"], &job["age_seconds"], &job["remaining_seconds"]),
            (&json!(7), &json!(4.25), &json!(4.25))
        );
        assert_eq!(first["jobs"][3]["remaining_seconds"], json!(null));
        assert_eq!(second, r#"{"jobs":[],"num_jobs":0,"pool":""}"#);
    }
}
