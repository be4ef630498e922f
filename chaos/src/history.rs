//! The history: the outcomes that clients saw, and the executions that workers recorded.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};

use crate::plan::Language;

/// The size of a worker's record.
const RECORD_BYTES: usize = 64;

/// The outcome of an item, as its client saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A result: the answer to the nonce, and the execution that it names.
    Done {
        answer: u64,
        execution: ExecutionId,
    },
    Failed(Failure),
    /// The call ended before: the client left, the deadline passed, or another item failed.
    Abandoned,
}

/// How an item failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Failure {
    Raised,
    /// With the process that died.
    Crashed(u64),
    /// With the process that was killed for its memory.
    OutOfMemory(u64),
    CrashLimit,
    TimedOut,
    Protocol,
    Unexpected(String),
}

/// One execution of an item: a process, and the moment when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ExecutionId {
    pub(crate) began: u64,
    pub(crate) pid: u64,
}

/// A worker's record of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Execution {
    pub(crate) item: u64,
    pub(crate) id: ExecutionId,
    /// When it ended, in nanoseconds; `None` if it did not.
    pub(crate) ended: Option<u64>,
}

/// What an item should do, and its outcome.
#[derive(Debug, Clone, Default)]
pub(crate) struct ItemHistory {
    pub(crate) language: Option<Language>,
    pub(crate) job: u64,
    pub(crate) most_executions: u32,
    /// The expected answer to its nonce.
    pub(crate) answer: u64,
    /// It should raise.
    pub(crate) raises: bool,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) num_outcomes: u32,
}

/// What the clients saw, by item.
#[derive(Debug)]
pub(crate) struct ClientHistory {
    items: Mutex<Vec<ItemHistory>>,
}

impl ClientHistory {
    pub(crate) fn new(num_items: u64) -> Result<Self> {
        Ok(Self { items: Mutex::new(vec![ItemHistory::default(); usize::try_from(num_items)?]) })
    }

    /// Records items that are sent.
    pub(crate) fn invoke(&self, first: u64, asked: impl Iterator<Item = ItemHistory>) {
        for (history, asked) in self.lock().iter_mut().skip(index(first)).zip(asked) {
            *history = asked;
        }
    }

    /// Records the outcome of an item.
    pub(crate) fn note(&self, item: u64, outcome: Outcome) {
        if let Some(history) = self.lock().get_mut(index(item)) {
            history.num_outcomes += 1;
            history.outcome = Some(outcome);
        }
    }

    /// Records that items without an outcome will have none.
    pub(crate) fn abandon(&self, items: impl Iterator<Item = u64>) {
        let mut histories = self.lock();
        for item in items {
            if let Some(history) = histories.get_mut(index(item)).filter(|history| history.num_outcomes == 0) {
                history.num_outcomes = 1;
                history.outcome = Some(Outcome::Abandoned);
            }
        }
    }

    pub(crate) fn take(&self) -> Vec<ItemHistory> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ItemHistory>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn index(item: u64) -> usize {
    usize::try_from(item).unwrap_or(usize::MAX)
}

/// Returns how many faults workers have executed so far, which is how many have died of one or are about to.
pub(crate) fn count_vices(directory: &Path) -> u64 {
    std::fs::metadata(directory.join("vices")).map_or(0, |file| file.len() / RECORD_BYTES as u64)
}

/// Reads which workers executed a fault.
pub(crate) fn read_vices(directory: &Path) -> Result<Vec<Execution>> {
    read_records(directory, "vices").map(|records| records.into_iter().map(|(_, vice)| vice).collect())
}

/// Reads the workers' records: the executions by item, then by time.
pub(crate) fn read_executions(directory: &Path) -> Result<Vec<Execution>> {
    let records = read_records(directory, "history")?;
    let (mut executions, mut ends) = (Vec::with_capacity(records.len() / 2), Vec::with_capacity(records.len() / 2));
    for (kind, execution) in records {
        let list = if kind == 'S' { &mut executions } else { &mut ends };
        list.push(execution);
    }
    let key = |execution: &Execution| (execution.item, execution.id);
    executions.sort_unstable_by_key(key);
    for end in ends {
        let position = executions.binary_search_by_key(&key(&end), key);
        let position = position.ok().with_context(|| format!("item {} ended without a start", end.item))?;
        ensure!(executions[position].ended.is_none(), "an execution of item {} ended twice", end.item);
        executions[position].ended = end.ended;
    }
    Ok(executions)
}

fn read_records(directory: &Path, name: &str) -> Result<Vec<(char, Execution)>> {
    let path = directory.join(name);
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        text => text.with_context(|| format!("could not read {}", path.display()))?,
    };
    ensure!(text.len() % RECORD_BYTES == 0, "{} ends in the middle of a record", path.display());
    let parse = |record| {
        let problem = || format!("{:?} in {} is no record", String::from_utf8_lossy(record), path.display());
        parse_record(record).with_context(problem)
    };
    text.chunks_exact(RECORD_BYTES).map(parse).collect()
}

fn parse_record(record: &[u8]) -> Option<(char, Execution)> {
    let mut fields = std::str::from_utf8(record).ok()?.split_ascii_whitespace();
    let kind = fields.next()?.chars().next().filter(|kind| "SFV".contains(*kind))?;
    let mut number = || fields.next()?.parse::<u64>().ok();
    let (item, pid, began, time) = (number()?, number()?, number()?, number()?);
    Some((kind, Execution { item, id: ExecutionId { began, pid }, ended: (kind == 'F').then_some(time) }))
}
