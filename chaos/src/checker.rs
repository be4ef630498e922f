//! Holds what the clients saw against what the workers wrote down: plain counting.
//!
//! The invariants are those of the project's plan for reliability. I1: an item has exactly one outcome. I2: it is not
//! executed more often than allowed, nor twice at a time. I3: a result is of the last execution of its item, which ended.
//! I4, the order, is checked by the clients as the results come. I5: no more items run than there are slots. What failed
//! must have a cause: a worker that was killed fails one item, its own; only what hung was out of time.

use std::collections::{BTreeMap, HashMap, HashSet};

use rustix::process::Signal;

use crate::history::{Execution, Failure, ItemHistory, Outcome};
use crate::plan::Language;
use crate::saboteur::Strike;
use crate::server::{ITEM_TIMEOUT, slots};

/// As many are described; all are counted.
const MAX_DESCRIBED: usize = 40;
/// As many workers may an item kill: the server's default.
const CRASH_LIMIT: usize = 3;

/// What is wrong, and some figures.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) lost: u64,
    pub(crate) unaccounted: u64,
    pub(crate) duplicated: u64,
    /// What is wrong, for people.
    pub(crate) problems: Vec<String>,
    pub(crate) num_problems: u64,
    pub(crate) outcomes: BTreeMap<String, u64>,
    pub(crate) num_executions: u64,
    /// Executions of items that had been executed before.
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

/// Who was killed, and how often.
struct Deaths {
    /// How often a process of this number was killed; numbers come again in a long run.
    killed: HashMap<u64, u64>,
    stopped: HashSet<u64>,
    vicious: HashSet<u64>,
    /// How many items failed with it.
    blamed: HashMap<u64, u64>,
}

/// Checks everything.
pub(crate) fn check(
    items: &[ItemHistory],
    executions: &[Execution],
    strikes: &[Strike],
    vices: &[Execution],
) -> Findings {
    let mut findings = Findings { num_executions: executions.len() as u64, ..Findings::default() };
    let vicious = vices.iter().map(|vice| vice.id.pid).collect();
    let mut deaths = Deaths { killed: HashMap::new(), stopped: HashSet::new(), vicious, blamed: HashMap::new() };
    for strike in strikes {
        *deaths.killed.entry(strike.pid.into()).or_default() += 1;
        if strike.signal == Signal::STOP {
            deaths.stopped.insert(strike.pid.into());
        }
    }
    for vice in vices {
        *deaths.killed.entry(vice.id.pid).or_default() += 1;
    }
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
    for (pid, blamed) in &deaths.blamed {
        let killed = deaths.killed.get(pid).copied().unwrap_or(0);
        if *blamed > killed {
            findings.add(format!("process {pid} died {killed} times and took {blamed} items with it"));
        }
    }
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
    if let Some(problem) = unaccounted(item, outcome, runs, deaths) {
        findings.unaccounted += 1;
        findings.add(describe(problem));
    }
}

/// Returns what does not agree between an outcome and the executions.
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
            // Without an end, or without a start, it may have been as slow as any.
            let was_quick = last.is_some_and(|last| last.ended.is_some_and(|ended| ended - last.id.began < limit));
            let was_stopped = last.is_some_and(|last| deaths.stopped.contains(&last.id.pid));
            (was_quick && !was_stopped).then_some("was out of time although it was quick")
        }
        // What a worker sends behind garbage is not read: results that it had not sent before are lost with it.
        Outcome::Failed(Failure::Protocol) => {
            let had_a_vice = last.is_none_or(|last| deaths.vicious.contains(&last.id.pid));
            (!had_a_vice).then_some("failed with a worker that did not break the protocol")
        }
        Outcome::Failed(failure @ (Failure::Crashed | Failure::CrashLimit)) => {
            // Killed before it could write down that it began: then there is nobody to hold responsible.
            let last = last?;
            *deaths.blamed.entry(last.id.pid).or_default() += 1;
            if !deaths.killed.contains_key(&last.id.pid) {
                Some("failed with a worker that nobody killed")
            } else if *failure == Failure::CrashLimit && runs.len() < CRASH_LIMIT {
                Some("is said to have killed more workers than it ran on")
            } else {
                None
            }
        }
    }
}

fn name(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done { .. } => "ok".to_owned(),
        Outcome::Abandoned => "call ended before".to_owned(),
        Outcome::Failed(Failure::Unexpected(_)) => "unexpected failure".to_owned(),
        Outcome::Failed(failure) => format!("{failure:?}"),
    }
}

/// Counts how many items ran at a time. Only executions that ended count: when the others did, only the kernel knows.
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
