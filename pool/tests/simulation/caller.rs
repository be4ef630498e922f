//! A caller that a seed moves: it calls in every way, waits or gives up, reads fast or slowly, and compares what it is
//! told with what happened.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use procpool_items::{ItemKind, ItemSlab, SlabBuilder};
use procpool_pool::{
    Call, CallError, CallOptions, CommonArgument, ItemError, ItemFailure, MapOutput, OnError, PoolConfig, PoolHandle,
    ResultOrder, ResultRun, ResultStream, StreamOptions,
};
use tokio::time::{Instant, sleep, timeout};

use crate::ledger::{Finish, JobRules, Kills, Ledger, result_of};
use crate::random::Random;
use crate::worker::CANCELLED;

/// Longer than anything takes that ends.
const PATIENCE: Duration = Duration::from_secs(3600);

pub(crate) struct Caller {
    pub(crate) handle: PoolHandle,
    pub(crate) ledger: Ledger,
    pub(crate) random: Random,
    pub(crate) last_job: Arc<AtomicU64>,
}

/// A call that is being made.
struct Plan {
    job: u64,
    num_items: u64,
    call: Call,
    /// When the caller loses interest.
    patience: Duration,
    /// It is known that it will.
    gives_up: bool,
    on_error: OnError,
}

impl Caller {
    /// Calls so many times, one after the other.
    pub(crate) async fn run(mut self, num_calls: u64) {
        for _ in 0..num_calls {
            let pause = Duration::from_micros(self.random.below(30_000));
            sleep(pause).await;
            self.call_once().await;
        }
    }

    async fn call_once(&mut self) {
        let how = self.random.below(4);
        let plan = self.plan(how == 0);
        let (job, gives_up) = (plan.job, plan.gives_up);
        let patience = plan.patience;
        self.ledger.trace(|| format!("call {job} begins, will wait {patience:?}"));
        let call = async {
            match how {
                0 => self.map(plan).await,
                1 | 2 => self.imap(plan).await,
                _ => self.imap_stream(plan).await,
            }
        };
        let answer = timeout(patience, call).await;
        self.ledger.trace(|| format!("call {job} has ended: {answer:?}"));
        assert!(answer.is_ok() || gives_up, "call {job} hangs");
        self.ledger.job_ended(job, answer == Ok(true));
    }

    fn plan(&mut self, is_map: bool) -> Plan {
        let random = &mut self.random;
        let most_items = if random.below(5) == 0 { 300 } else { 20 };
        let num_items = 1 + random.below(most_items);
        let function = random.pick(&["again", "again", "f", "f", "f", "sometimes"]).unwrap();
        let mut call = Call::new(function);
        call.options.chunk_size = random.maybe(|random| NonZeroU32::new(1 + random.below(8) as u32).unwrap());
        call.options.item_timeout = random.maybe(|random| Duration::from_millis(1 + random.below(500)));
        call.options.max_attempts = random.maybe(|random| NonZeroU32::new(1 + random.below(4) as u32).unwrap());
        call.options.on_error = random.pick(&[None, Some(OnError::FailFast), Some(OnError::Collect)]).flatten();
        call.options.priority = random.pick(&[-2, 0, 0, 1, 8]).unwrap();
        let options = call.options;
        let max_answer_bytes = random.maybe(|random| 1000 + random.below(100_000));
        let deadline = (random.below(4) == 0).then(|| Instant::now() + Duration::from_millis(random.below(2000)));
        let gives_up = random.below(4) == 0;
        let patience = match (gives_up, random.below(3)) {
            (false, _) => PATIENCE,
            // Before anybody has looked.
            (true, 0) => Duration::ZERO,
            (true, _) => Duration::from_micros(random.below(200_000)),
        };
        let default_attempts = if function == "again" { self.handle.config().crash_limit.get() } else { 1 };
        let on_error = options.on_error.unwrap_or(if is_map { OnError::FailFast } else { OnError::Collect });
        let kills = (random.below(12) == 0).then(|| random.pick(&[Kills::Before, Kills::After]).unwrap());
        let rules = JobRules {
            function,
            max_attempts: options.max_attempts.map_or(default_attempts, NonZeroU32::get),
            // A call that fails fast lets what runs finish, but not for ever.
            may_hang: options.item_timeout.is_some() || deadline.is_some() || gives_up,
            has_common: kills.is_some() || random.below(4) == 0,
            kills,
            has_time_limit: options.item_timeout.is_some() || self.handle.config().item_timeout.is_some(),
            ends_at: [deadline, gives_up.then(|| Instant::now() + patience)].into_iter().flatten().min(),
        };
        let job = self.last_job.fetch_add(1, Ordering::Relaxed) + 1;
        self.ledger.job_begins(job, rules, call.job.clone());
        let common = rules.has_common.then(|| CommonArgument {
            kind: ItemKind::Blobs,
            content_type: String::new(),
            bytes: Bytes::from_static(b"common"),
        });
        let call = Call { common, max_answer_bytes, deadline, ..call };
        Plan { job, num_items, call, patience, gives_up, on_error }
    }

    /// Returns whether every item has its outcome.
    async fn map(&mut self, plan: Plan) -> bool {
        let items = items(plan.job, 0..plan.num_items);
        let answer = self.handle.map(plan.call.clone(), items).await;
        match answer {
            Ok(MapOutput { parts, errors, held }) => {
                let texts = texts(&parts);
                assert_eq!(texts.len() as u64, plan.num_items, "call {}: an outcome for each item", plan.job);
                for (index, text) in (0..).zip(&texts) {
                    self.check(&plan, index, text, find(&errors, index));
                }
                // The answer is on its way for a while.
                self.dawdle(5).await;
                drop(held);
                true
            }
            Err(error) => self.check_error(&plan, error),
        }
    }

    async fn imap(&mut self, plan: Plan) -> bool {
        let options = self.stream_options();
        let items = items(plan.job, 0..plan.num_items);
        match self.handle.imap(plan.call.clone(), items, options).await {
            Ok(results) => self.read(&plan, options.order, results).await,
            Err(error) => self.check_error(&plan, error),
        }
    }

    async fn imap_stream(&mut self, plan: Plan) -> bool {
        let options = self.stream_options();
        let (mut sink, results) = match self.handle.imap_stream(plan.call.clone(), options).await {
            Ok(ends) => ends,
            Err(error) => return self.check_error(&plan, error),
        };
        let (job, num_items) = (plan.job, plan.num_items);
        let mut random = Random::new(self.random.below(u64::MAX));
        let feeder = async move {
            let mut next = 0;
            while next < num_items {
                let end = num_items.min(next + 1 + random.below(10));
                if sink.send(items(job, next..end)).await.is_err() {
                    return;
                }
                next = end;
                if random.below(3) == 0 {
                    let pause = Duration::from_micros(random.below(5000));
                    sleep(pause).await;
                }
            }
            sink.finish().await;
        };
        tokio::join!(self.read(&plan, options.order, results), feeder).0
    }

    fn stream_options(&mut self) -> StreamOptions {
        let order = self.random.pick(&[ResultOrder::Ordered, ResultOrder::Unordered]).unwrap();
        let window = self.random.maybe(|random| NonZeroU32::new(1 + random.below(30) as u32).unwrap());
        StreamOptions { order, window }
    }

    /// Reads a stream to its end; returns whether every item has its outcome.
    async fn read(&mut self, plan: &Plan, order: ResultOrder, mut results: ResultStream) -> bool {
        let mut seen = vec![false; plan.num_items as usize];
        let mut num_taken = 0;
        loop {
            let output = match results.next().await {
                Some(Ok(output)) => output,
                Some(Err(error)) => return self.check_error(plan, error),
                None => break,
            };
            let Some(run) = output.run else { continue };
            let ResultRun { first_index, indexes, count, parts, errors, mut held } = run;
            let texts = texts(&parts);
            assert_eq!(texts.len() as u64, count);
            let indexes = if order == ResultOrder::Ordered {
                assert_eq!(first_index, num_taken, "call {}: in order, without a gap", plan.job);
                (first_index..first_index + count).collect()
            } else {
                indexes
            };
            for (&index, text) in indexes.iter().zip(&texts) {
                assert!(!std::mem::replace(&mut seen[index as usize], true), "call {}: one outcome each", plan.job);
                self.check(plan, index, text, find(&errors, index));
            }
            num_taken += count;
            self.dawdle(4).await;
            held.give_back(self.random.below(2000));
            // Some readers stop for so long that everybody else feels it.
            self.dawdle(4).await;
            drop(held);
            results.set_taken(num_taken);
        }
        assert!(seen.iter().all(|seen| *seen), "call {}: an outcome for each item", plan.job);
        true
    }

    /// Takes its time, one time in so many.
    async fn dawdle(&mut self, one_in: u64) {
        if self.random.below(one_in) == 0 {
            let most = self.random.pick(&[20_000, 20_000, 1_000_000]).unwrap();
            let pause = Duration::from_micros(self.random.below(most));
            sleep(pause).await;
        }
    }

    /// Compares the outcome of an item with what happened.
    fn check(&self, plan: &Plan, index: u64, text: &str, failure: Option<&ItemFailure>) {
        let key = (plan.job, index);
        let history = self.ledger.history(key);
        match failure {
            None => {
                assert_eq!(text, result_of(plan.job, index), "the result is the item's own");
                assert_eq!(history.finished, Some(Finish::Returned), "{key:?} has a result, so it returned");
            }
            Some(failure) => {
                assert_eq!(plan.on_error, OnError::Collect, "{key:?}");
                match failure {
                    ItemFailure::Raised { kind, .. } => {
                        assert_ne!(kind, CANCELLED, "{key:?} was told to end, and somebody waits for it");
                        assert_eq!(history.finished, Some(Finish::Raised), "{key:?}");
                    }
                    // Its last attempts never began. One before that may have finished too late.
                    ItemFailure::CrashLimit { .. } if !history.deaths_before.is_empty() => self.ledger.check_blame(key),
                    ItemFailure::WorkerCrashed { .. } | ItemFailure::CrashLimit { .. } => {
                        assert!(history.finished.is_none() && !history.is_running, "{key:?}: {failure} {history:?}");
                    }
                    ItemFailure::WorkerProtocol { .. } => assert!(history.is_lost, "{key:?}: {failure} {history:?}"),
                    // It may still run, or have finished a moment too late.
                    ItemFailure::ItemTimeout { .. } => assert!(history.executions > 0, "{key:?}"),
                    other => panic!("{key:?}: {other}"),
                }
            }
        }
    }

    /// Checks that a call may fail like this; returns false: not every item has an outcome.
    fn check_error(&self, plan: &Plan, error: CallError) -> bool {
        self.ledger.trace(|| format!("call {} fails: {error}", plan.job));
        match error {
            CallError::ItemFailed(error) => {
                assert_eq!(plan.on_error, OnError::FailFast);
                let plan = Plan { on_error: OnError::Collect, call: plan.call.clone(), ..*plan };
                self.check(&plan, error.index, "", Some(&error.failure));
            }
            CallError::DeadlineExceeded { .. } => assert!(plan.call.deadline.is_some_and(|at| at <= Instant::now())),
            CallError::Draining { started } => {
                assert!(self.ledger.is_draining(), "nobody drains");
                self.check_refusal(plan, started);
            }
            CallError::Degraded { started, .. } => {
                assert!(!self.ledger.is_calm());
                self.check_refusal(plan, started);
            }
            CallError::DeadlineUnreachable { expected, remaining, .. } => {
                assert!(plan.call.deadline.is_some() && expected > remaining);
                self.check_refusal(plan, false);
            }
            CallError::QueueFull { .. } => self.check_refusal(plan, false),
            CallError::ResultsTooLarge { bytes, limit } => {
                assert!(bytes > limit && plan.call.max_answer_bytes == Some(limit));
            }
            CallError::ResultsFull { .. } => assert!(!self.ledger.is_calm()),
            CallError::CrashLimit { crashes, .. } => self.ledger.check_blame_of_job(plan.job, crashes),
            CallError::FunctionNotFound { name, started, .. } => {
                assert_eq!((name.as_str(), plan.call.function.as_str()), ("sometimes", "sometimes"));
                self.check_refusal(plan, started);
            }
            CallError::CancelledByOperator { job } => {
                assert_eq!(plan.call.job.get(), Some(job));
                assert!(self.ledger.has_operator_cancelled(job), "nobody cancelled job {job}");
            }
            other => panic!("call {}: {other}", plan.job),
        }
        false
    }

    /// Who is told that nothing has started may send the same again.
    fn check_refusal(&self, plan: &Plan, started: bool) {
        if !started {
            self.ledger.job_refused(plan.job);
        }
    }
}

/// Calls once with as many items as the pool takes at all; everything must succeed.
pub(crate) async fn fill_the_pool(handle: &PoolHandle, ledger: &Ledger, config: &PoolConfig) {
    let job = 0;
    let rules = JobRules {
        function: "f",
        max_attempts: 1,
        may_hang: false,
        has_common: false,
        kills: None,
        has_time_limit: false,
        ends_at: None,
    };
    let num_items = u64::from(config.max_queued_items);
    let call =
        Call { options: CallOptions { on_error: Some(OnError::Collect), ..CallOptions::default() }, ..Call::new("f") };
    ledger.job_begins(job, rules, call.job.clone());
    let output = timeout(PATIENCE, handle.map(call, items(job, 0..num_items))).await.expect("it ends");
    let output = output.expect("a pool at rest takes as much as a new one");
    assert_eq!(texts(&output.parts).len() as u64, num_items);
    assert!(output.errors.iter().all(|error| matches!(error.failure, ItemFailure::Raised { .. })));
}

fn items(job: u64, indexes: std::ops::Range<u64>) -> ItemSlab {
    let mut list = SlabBuilder::new();
    for index in indexes {
        list.push(format!("{job}:{index}").as_bytes());
    }
    ItemSlab::parse(ItemKind::Blobs, list.take()).unwrap()
}

fn texts(parts: &[Bytes]) -> Vec<String> {
    let list = ItemSlab::parse(ItemKind::Blobs, parts.concat().into()).unwrap();
    (0..list.len()).map(|item| String::from_utf8(list.item(item).to_vec()).unwrap()).collect()
}

fn find(errors: &[ItemError], index: u64) -> Option<&ItemFailure> {
    errors.iter().find(|error| error.index == index).map(|error| &error.failure)
}
