//! Prints the report.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "people, and CI, read this")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::checker::Findings;
use crate::plan::{Language, Plan};
use crate::saboteur::Sabotage;
use crate::server::Resources;

/// The results of a run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) plan: Plan,
    pub(crate) sabotage: Sabotage,
    /// How many calls their clients abandoned.
    pub(crate) num_departures: u64,
    pub(crate) num_vices: u64,
    pub(crate) findings: Findings,
    pub(crate) before: Resources,
    pub(crate) after: Resources,
    pub(crate) elapsed: Duration,
    /// By language: from the kill to the event of the exit, and to the next ready worker.
    pub(crate) times: [(Vec<Duration>, Vec<Duration>); 2],
}

impl Report {
    /// Returns whether all promises were kept.
    pub(crate) fn is_good(&self) -> bool {
        let Findings { lost, unaccounted, duplicated, num_problems, .. } = self.findings;
        lost + unaccounted + duplicated + num_problems == 0
    }

    /// Prints a table, and in the last line the verdict.
    pub(crate) fn print(&self) {
        let Self { plan, sabotage, num_departures, num_vices, findings, before, after, elapsed, .. } = self;
        for problem in &findings.problems {
            println!("problem: {problem}");
        }
        let row = |name: &str, value: String| println!("{name:<28} {value}");
        for ((signal, pool), count) in sabotage.count_by_signal() {
            row(&format!("{signal}, {pool} pool"), count.to_string());
        }
        row("vices of items", num_vices.to_string());
        row("clients that left a call", num_departures.to_string());
        row("restarts of all workers", sabotage.num_restarts.to_string());
        row("slots taken and given back", sabotage.num_resizes.to_string());
        for (outcome, count) in &findings.outcomes {
            row(&format!("items: {outcome}"), count.to_string());
        }
        row("executions", format!("{}, {} of them again", findings.num_executions, findings.num_retries));
        for (pool, most) in &findings.most_running {
            row(&format!("most items at a time, {pool}"), most.to_string());
        }
        for (language, (detections, replacements)) in Language::ALL.iter().zip(&self.times) {
            row(&format!("kill to news, {}", language.name()), spread(detections));
            row(&format!("kill to successor, {}", language.name()), spread(replacements));
        }
        row("resident memory", format!("{} KiB before, {} KiB after, both at rest", before.rss_kib, after.rss_kib));
        for kind in before.fds.keys().chain(after.fds.keys()).collect::<BTreeSet<_>>() {
            let [earlier, now] = [before, after].map(|held| held.fds.get(kind).copied().unwrap_or(0));
            if earlier != now {
                row("open files", format!("{kind}: {earlier} before, {now} after"));
            }
        }
        row("time", format!("{elapsed:.1?}"));
        let grown = |before: u64, after: u64| i128::from(after) - i128::from(before);
        println!(
            "chaos: seed={} kills={} items={} lost={} unaccounted={} duplicated={} fds={:+} zombies={} threads={:+}",
            plan.seed,
            sabotage.strikes.len() as u64 + num_vices,
            plan.items,
            findings.lost,
            findings.unaccounted,
            findings.duplicated,
            grown(before.num_fds(), after.num_fds()),
            after.zombies,
            grown(before.threads, after.threads),
        );
    }
}

/// Returns the median, the 99th percentile and the longest of sorted times.
fn spread(times: &[Duration]) -> String {
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
    match (at(50), at(99), times.last()) {
        (Some(median), Some(high), Some(longest)) => {
            format!("median {median:.1?}, p99 {high:.1?}, longest {longest:.1?}, of {}", times.len())
        }
        _ => "none".to_owned(),
    }
}

/// Prints the verdict about killed servers.
pub(crate) fn print_server_kills(seed: u64, kills: u64, num_with_remains: u64, slowest: Duration) {
    println!("longest until nothing was left: {slowest:.1?}");
    println!("chaos: seed={seed} server-kills={kills} left-something={num_with_remains}");
}

/// Prints progress.
pub(crate) fn print_step(text: &str) {
    eprintln!("chaos: {text}");
}

/// Prints where the records are.
pub(crate) fn print_directory(directory: &Path) {
    eprintln!("chaos: the server's log and the workers' history are in {}", directory.display());
}

/// Prints why a run could not be finished.
pub(crate) fn print_error(seed: u64, error: &anyhow::Error) {
    eprintln!("chaos: seed={seed} failed: {error:?}");
}
