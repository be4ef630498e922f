//! The clients: they make the calls of the plan and record the outcome of each item.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::stream;
use procpool_client::{Call, CallError, Client, Encoding, ItemError, ItemErrorKind, Map, ResultStream};
use tokio::sync::{Mutex, watch};

use crate::history::{ClientHistory, ExecutionId, Failure, ItemHistory, Outcome};
use crate::plan::{Ending, Job, Plan, Verb};

/// If no call ends for this long, the pool hangs, however busy the machine is.
const HANGS_AFTER: Duration = Duration::from_secs(180);
/// How often a call that was refused before anything started is retried.
const MAX_REFUSALS: u32 = 100;
/// How long a slow reader pauses after a result.
const READER_REST: Duration = Duration::from_micros(300);

/// An item as it is sent.
type Item = (u64, u64, String, u64);
/// The result of a worker: the item's number, the answer to its nonce, the process and the start time.
type Answer = (u64, u64, u64, u64);

/// The state that all clients share.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) plan: Plan,
    pub(crate) address: String,
    pub(crate) shared: Client,
    pub(crate) history: Arc<ClientHistory>,
    /// The number of the next job, and of its first item.
    pub(crate) next: Mutex<(u64, u64)>,
    /// How many items have ended.
    pub(crate) done: Arc<AtomicU64>,
    /// How many items may begin so far, so that the kills keep pace.
    pub(crate) allowed: watch::Receiver<u64>,
    pub(crate) refusals: AtomicU64,
    /// How many calls their clients abandoned.
    pub(crate) departures: AtomicU64,
}

impl Clients {
    /// Makes calls until all items are used.
    ///
    /// # Errors
    ///
    /// If a call hangs or ends with an unexpected error.
    pub(crate) async fn run(self: Arc<Self>) -> Result<()> {
        while let Some(job) = self.next_job().await? {
            self.run_job(&job).await.with_context(|| describe(&job))?;
            self.done.fetch_add(job.tasks.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn next_job(&self) -> Result<Option<Job>> {
        let mut next = self.next.lock().await;
        self.allowed.clone().wait_for(|&allowed| next.1 <= allowed).await.context("the saboteur has gone")?;
        let job = self.plan.job(next.0, next.1);
        if let Some(job) = &job {
            *next = (next.0 + 1, next.1 + job.tasks.len() as u64);
        }
        Ok(job)
    }

    async fn run_job(&self, job: &Job) -> Result<()> {
        let items: Vec<Item> = (job.first..)
            .zip(&job.tasks)
            .map(|(id, task)| (id, self.plan.nonce(id), task.what.clone(), task.microseconds))
            .collect();
        let asked = items.iter().map(|(id, nonce, what, _)| ItemHistory {
            language: Some(job.language),
            job: job.number,
            most_executions: self.plan.most_executions(job),
            answer: (nonce * 31 + id) % 1_000_003,
            raises: what == "raise",
            ..ItemHistory::default()
        });
        self.history.invoke(job.first, asked);
        let connection = if job.has_own_connection {
            Client::connect(&self.address).await.context("could not connect")?
        } else {
            self.shared.clone()
        };
        let client = connection.with_encoding(if job.is_json { Encoding::Json } else { Encoding::Values });
        for _ in 0..MAX_REFUSALS {
            let call = pin!(self.call(job, &client, items.clone()));
            match self.unless_it_hangs(call).await? {
                Ok(()) => return Ok(()),
                Err(error) if error.is_safe_to_retry() => {
                    self.refusals.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(retry_after(&error)).await;
                }
                Err(error) => return self.note_call_error(job, error),
            }
        }
        bail!("the call was refused {MAX_REFUSALS} times")
    }

    /// Waits for the call. It counts as hung when no call at all has ended for a long time: on a busy machine the
    /// Python pool, whose workers die as fast as they start, may take minutes for one.
    async fn unless_it_hangs<T>(&self, mut call: Pin<&mut impl Future<Output = T>>) -> Result<T> {
        loop {
            let before = self.done.load(Ordering::Relaxed);
            if let Ok(result) = tokio::time::timeout(HANGS_AFTER, &mut call).await {
                return Ok(result);
            }
            ensure!(self.done.load(Ordering::Relaxed) > before, "the call hangs");
        }
    }

    /// Makes the call once, and abandons it if the plan says so.
    async fn call(&self, job: &Job, client: &Client, items: Vec<Item>) -> Result<(), CallError> {
        let whole = async {
            if job.verb.is_stream() {
                self.stream(job, client, items).await
            } else {
                self.map(job, client, items).await
            }
        };
        match job.ending {
            Ending::Leave { after, .. } => tokio::time::timeout(after, whole).await.unwrap_or_else(|_| {
                self.leave(job);
                Ok(())
            }),
            _ => whole.await,
        }
    }

    async fn map(&self, job: &Job, client: &Client, items: Vec<Item>) -> Result<(), CallError> {
        let call = match job.verb {
            Verb::StarMap => client.starmap::<Answer>(function(job, "_star"), items),
            _ => client.map::<Answer>(function(job, ""), items),
        };
        let call: Call<Map<Answer>> = with_options(job, call);
        if job.ending == Ending::FailFast {
            for (id, answer) in ids(job).zip(call.await?) {
                self.note(id, Ok(answer));
            }
        } else {
            for (id, result) in ids(job).zip(call.collect_errors().await?) {
                self.note(id, result);
            }
        }
        Ok(())
    }

    async fn stream(&self, job: &Job, client: &Client, items: Vec<Item>) -> Result<(), CallError> {
        let is_fail_fast = job.ending == Ending::FailFast;
        let name = function(job, "");
        let mut results = if matches!(job.verb, Verb::IMap | Verb::IMapUnordered) {
            let call = with_options(job, client.imap::<Answer>(name, items));
            let call = if job.verb.is_ordered() { call } else { call.unordered() };
            if is_fail_fast { call.fail_fast().await? } else { call.await? }
        } else {
            let call = with_options(job, client.imap_stream::<Answer>(name, stream::iter(items)));
            let call = if job.verb.is_ordered() { call } else { call.unordered() };
            if is_fail_fast { call.fail_fast().await? } else { call.await? }
        };
        self.read(job, &mut results).await
    }

    async fn read(&self, job: &Job, results: &mut ResultStream<Answer>) -> Result<(), CallError> {
        let mut count = 0;
        while let Some(result) = results.try_next().await? {
            if job.verb.is_ordered() && result.index != count {
                let message = format!("result {} came at place {count} of an ordered stream", result.index);
                return Err(CallError::Protocol { message });
            }
            count += 1;
            self.note(job.first + result.index, result.result);
            if matches!(job.ending, Ending::Leave { results, .. } if results == count) {
                self.leave(job);
                return Ok(());
            }
            if job.reader_rests {
                tokio::time::sleep(READER_REST).await;
            }
        }
        Ok(())
    }

    fn leave(&self, job: &Job) {
        self.departures.fetch_add(1, Ordering::Relaxed);
        self.history.abandon(ids(job));
    }

    fn note(&self, id: u64, result: Result<Answer, ItemError>) {
        let outcome = match result {
            Ok((item, answer, pid, began)) if item == id => {
                Outcome::Done { answer, execution: ExecutionId { began, pid } }
            }
            Ok((item, ..)) => Outcome::Failed(Failure::Unexpected(format!("the result is of item {item}"))),
            Err(error) => Outcome::Failed(failure(&error)),
        };
        self.history.note(id, outcome);
    }

    fn note_call_error(&self, job: &Job, error: CallError) -> Result<()> {
        match error {
            CallError::ItemFailed(error) if job.ending == Ending::FailFast => {
                self.note(job.first + error.index, Err(*error));
            }
            CallError::DeadlineExceeded { .. } if matches!(job.ending, Ending::Deadline(_)) => {}
            error => return Err(error).context("the call failed"),
        }
        self.history.abandon(ids(job));
        Ok(())
    }
}

fn with_options<V>(job: &Job, call: Call<V>) -> Call<V> {
    let call = call.max_attempts(job.max_attempts).chunk_size(job.chunk_size).priority(job.priority);
    match job.ending {
        Ending::Deadline(timeout) => call.timeout(timeout),
        _ => call,
    }
}

fn function(job: &Job, suffix: &str) -> String {
    format!("{}_work{suffix}", job.language.name())
}

fn ids(job: &Job) -> std::ops::Range<u64> {
    job.first..job.first + job.tasks.len() as u64
}

fn describe(job: &Job) -> String {
    let Job { number, language, verb, ending, first, tasks, max_attempts, chunk_size, .. } = job;
    format!(
        "job {number}: {verb:?} of {} items from {first} in {language:?}, {ending:?}, {max_attempts} attempts, \
         chunks of {chunk_size}",
        tasks.len()
    )
}

fn failure(error: &ItemError) -> Failure {
    match &error.kind {
        ItemErrorKind::Raised { .. } => Failure::Raised,
        ItemErrorKind::WorkerCrashed { pid, .. } => Failure::Crashed((*pid).into()),
        ItemErrorKind::WorkerOomKilled { pid, .. } => Failure::OutOfMemory((*pid).into()),
        ItemErrorKind::CrashLimit { .. } => Failure::CrashLimit,
        ItemErrorKind::ItemTimeout { .. } => Failure::TimedOut,
        ItemErrorKind::WorkerProtocol => Failure::Protocol,
        other => Failure::Unexpected(format!("{other:?}: {}", error.message)),
    }
}

fn retry_after(error: &CallError) -> Duration {
    match error {
        CallError::QueueFull { retry_after, .. } | CallError::Unavailable { retry_after, .. } => *retry_after,
        _ => None,
    }
    .unwrap_or(Duration::from_millis(100))
}
