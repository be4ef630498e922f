//! Compares what the clients received with what the workers wrote down, by counting.
//!
//! The invariants are those of the project's plan for reliability. I1: an item has exactly one outcome. I2: it is not
//! executed more often than allowed, nor twice at a time. I3: a result is of the last execution of its item, which
//! ended. The clients check I4, the order, as results arrive. I5: no more items run than there are slots. The run
//! itself measures I6, that everything is released. Every failure must have a cause: a death interrupts one execution
//! and fails one item; only items that hung may time out.

use std::collections::{BTreeMap, HashMap, HashSet};

use rustix::process::Signal;

use crate::history::{Execution, Failure, ItemHistory, Outcome};
use crate::plan::Language;
use crate::saboteur::Strike;
use crate::server::{ITEM_TIMEOUT, slots};

/// The number of violations that are described; all are counted.
const MAX_DESCRIBED: usize = 40;
/// How many workers an item may kill: the server's default.
const CRASH_LIMIT: usize = 3;

/// The violations, and some figures.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) lost: u64,
    pub(crate) unaccounted: u64,
    pub(crate) duplicated: u64,
    /// Descriptions of violations.
    pub(crate) problems: Vec<String>,
    pub(crate) num_problems: u64,
    pub(crate) outcomes: BTreeMap<String, u64>,
    pub(crate) num_executions: u64,
    /// Repeated executions.
    pub(crate) num_retries: u64,
    pub(crate) most_running: BTreeMap<&'static str, i64>,
}

impl Findings {
    pub(crate) fn add(&mut self, problem: String) {
        self.num_problems += 1;
        if self.problems.len() < MAX_DESCRIBED {
            self.problems.push(problem);
        }
    }
}

/// The killed workers, and how often each was killed.
#[derive(Debug, Default)]
struct Deaths {
    /// How often a process with this pid was killed; pids are reused in a long run.
    killed: HashMap<u64, u64>,
    stopped: HashSet<u64>,
    vicious: HashSet<u64>,
    /// How many items failed with it.
    blamed: HashMap<u64, u64>,
    /// How many executions began in it and did not end, in calls whose client waited.
    interrupted: HashMap<u64, u64>,
    /// Items that timed out, or failed with a worker that broke the protocol, before their begin was recorded: only
    /// their number can be checked.
    num_unrecorded_timeouts: u64,
    num_unrecorded_protocol_failures: u64,
}

impl Deaths {
    fn new(strikes: &[Strike], vices: &[Execution]) -> Self {
        let mut deaths = Self::default();
        for strike in strikes {
            *deaths.killed.entry(strike.pid.into()).or_default() += 1;
            if strike.signal == Signal::STOP {
                deaths.stopped.insert(strike.pid.into());
            }
        }
        for vice in vices {
            *deaths.killed.entry(vice.id.pid).or_default() += 1;
            deaths.vicious.insert(vice.id.pid);
        }
        deaths
    }

    /// Checks the totals over all items.
    fn check(&self, num_vices: usize, findings: &mut Findings) {
        for (what, by_process) in [("failed", &self.blamed), ("were interrupted", &self.interrupted)] {
            for (pid, count) in by_process {
                let killed = self.killed.get(pid).copied().unwrap_or(0);
                if *count > killed {
                    findings.add(format!("process {pid} died {killed} times, and {count} items {what} with it"));
                }
            }
        }
        let limits = [
            ("were out of time", self.num_unrecorded_timeouts, self.stopped.len()),
            ("failed with a worker that broke the protocol", self.num_unrecorded_protocol_failures, num_vices),
        ];
        for (what, count, limit) in limits {
            if count > limit as u64 {
                findings.add(format!("{count} items {what} without a trace of them, and there were {limit} causes"));
            }
        }
    }
}

/// Checks all invariants.
pub(crate) fn check(
    items: &[ItemHistory],
    executions: &[Execution],
    strikes: &[Strike],
    vices: &[Execution],
) -> Findings {
    let mut findings = Findings { num_executions: executions.len() as u64, ..Findings::default() };
    let mut deaths = Deaths::new(strikes, vices);
    let mut rest = executions;
    for (id, item) in (0..).zip(items) {
        let (runs, others) = rest.split_at(rest.partition_point(|run| run.item <= id));
        rest = others;
        findings.num_retries += (runs.len() as u64).saturating_sub(1);
        check_item(id, item, runs, &mut deaths, &mut findings);
    }
    if !rest.is_empty() {
        findings.unaccounted += rest.len() as u64;
        findings.add(format!("{} executions are of items that nobody asked for", rest.len()));
    }
    deaths.check(vices.len(), &mut findings);
    check_slots(items, executions, &mut findings);
    findings
}

fn check_item(id: u64, item: &ItemHistory, runs: &[Execution], deaths: &mut Deaths, findings: &mut Findings) {
    let describe = |problem: &str| {
        let ItemHistory { job, most_executions, outcome, .. } = item;
        format!("item {id} of job {job} {problem}: {outcome:?}, {most_executions} executions allowed, {runs:?}")
    };
    let Some(outcome) = &item.outcome else {
        findings.lost += 1;
        return findings.add(describe("is lost"));
    };
    *findings.outcomes.entry(name(outcome)).or_default() += 1;
    let is_twice_at_a_time = runs.windows(2).any(|pair| pair[0].ended.is_some_and(|ended| ended > pair[1].id.began));
    if item.num_outcomes > 1 || runs.len() > item.most_executions as usize || is_twice_at_a_time {
        findings.duplicated += 1;
        findings.add(describe("has something twice"));
    }
    if *outcome != Outcome::Abandoned {
        for run in runs.iter().filter(|run| run.ended.is_none()) {
            *deaths.interrupted.entry(run.id.pid).or_default() += 1;
        }
    }
    if let Some(problem) = unaccounted(item, outcome, runs, deaths) {
        findings.unaccounted += 1;
        findings.add(describe(problem));
    }
}

/// Returns the contradictions between an outcome and the executions.
fn unaccounted(item: &ItemHistory, outcome: &Outcome, runs: &[Execution], deaths: &mut Deaths) -> Option<&'static str> {
    let last = runs.last();
    let last_ended = last.is_some_and(|last| last.ended.is_some());
    match outcome {
        Outcome::Abandoned => None,
        Outcome::Done { answer, execution } => {
            let is_last = last.is_some_and(|last| last.id == *execution);
            if !is_last || !last_ended {
                Some("has a result that is not of its last execution")
            } else if *answer != item.answer || item.raises {
                Some("has a wrong result")
            } else {
                None
            }
        }
        Outcome::Failed(Failure::Raised) => {
            (!last_ended || !item.raises).then_some("raised although it should not have")
        }
        Outcome::Failed(Failure::Unexpected(_)) => Some("failed as none should"),
        Outcome::Failed(Failure::TimedOut) => {
            let limit = u64::try_from(ITEM_TIMEOUT.as_nanos()).unwrap_or(u64::MAX);
            // Without a start or an end, its duration is unknown.
            let was_quick = last.is_some_and(|last| last.ended.is_some_and(|ended| ended - last.id.began < limit));
            let was_stopped = last.is_some_and(|last| deaths.stopped.contains(&last.id.pid));
            deaths.num_unrecorded_timeouts += u64::from(last.is_none());
            (was_quick && !was_stopped).then_some("was out of time although it was quick")
        }
        // The server does not read what follows garbage: results that were not sent before are lost.
        Outcome::Failed(Failure::Protocol) => {
            let had_a_vice = last.is_none_or(|last| deaths.vicious.contains(&last.id.pid));
            deaths.num_unrecorded_protocol_failures += u64::from(last.is_none());
            (!had_a_vice).then_some("failed with a worker that did not break the protocol")
        }
        Outcome::Failed(failure @ (Failure::Crashed(pid) | Failure::OutOfMemory(pid))) => {
            *deaths.blamed.entry(*pid).or_default() += 1;
            // A worker may be killed before it recorded the begin.
            let is_another = last.is_some_and(|last| last.id.pid != *pid);
            if is_another && runs.len() == item.most_executions as usize {
                Some("failed with another worker than it ran on")
            } else if !deaths.killed.contains_key(pid) {
                Some("failed with a worker that nobody killed")
            } else if matches!(failure, Failure::OutOfMemory(_)) && !deaths.vicious.contains(pid) {
                Some("is said to have taken memory, and did not")
            } else {
                None
            }
        }
        Outcome::Failed(Failure::CrashLimit) => {
            if runs.len() < CRASH_LIMIT {
                Some("is said to have killed more workers than it ran on")
            } else {
                let was_killed = |run: &Execution| deaths.killed.contains_key(&run.id.pid);
                (!runs.iter().all(was_killed)).then_some("is said to have killed workers that nobody killed")
            }
        }
    }
}

fn name(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done { .. } => "ok".to_owned(),
        Outcome::Abandoned => "call ended before".to_owned(),
        Outcome::Failed(Failure::Unexpected(_)) => "unexpected failure".to_owned(),
        Outcome::Failed(Failure::Crashed(_)) => "worker crashed".to_owned(),
        Outcome::Failed(Failure::OutOfMemory(_)) => "worker took too much memory".to_owned(),
        Outcome::Failed(Failure::CrashLimit) => "crash limit".to_owned(),
        Outcome::Failed(Failure::TimedOut) => "timed out".to_owned(),
        Outcome::Failed(Failure::Protocol) => "worker broke the protocol".to_owned(),
        Outcome::Failed(Failure::Raised) => "raised".to_owned(),
    }
}

/// Counts how many items ran at a time. Only executions that ended count: the end of the others is unknown.
fn check_slots(items: &[ItemHistory], executions: &[Execution], findings: &mut Findings) {
    for language in Language::ALL {
        let mut moments: Vec<(u64, i64)> = executions
            .iter()
            .filter(|run| {
                usize::try_from(run.item)
                    .ok()
                    .and_then(|item| items.get(item))
                    .is_some_and(|item| item.language == Some(language))
            })
            .filter_map(|run| Some([(run.id.began, 1), (run.ended?, -1)]))
            .flatten()
            .collect();
        // An end sorts before a start at the same moment.
        moments.sort_unstable();
        let (mut running, mut most) = (0, 0);
        for (_, change) in moments {
            running += change;
            most = most.max(running);
        }
        findings.most_running.insert(language.name(), most);
        if most > i64::from(slots(language)) {
            findings.add(format!("{most} items ran at a time in the pool {}", language.name()));
        }
    }
}
