//! What the scheduler is told and what it wants done. Payloads do not appear: an item is an index.

use std::time::Duration;

use crate::id::{ChunkId, FunctionSet, JobId, SlotId, WorkerId};
use crate::job_spec::JobSpec;

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A caller wants a list of items run.
    JobSubmitted(JobSpec),
    /// More items of a stream arrived.
    ItemsAdded {
        /// The stream's job.
        job: JobId,
        /// How many more.
        count: u64,
        /// The mean length of these items, in bytes.
        item_bytes: u64,
    },
    /// A stream has no more items.
    InputClosed {
        /// The stream's job.
        job: JobId,
    },
    /// The reader of a stream has taken results.
    ResultsTaken {
        /// The stream's job.
        job: JobId,
        /// How many so far, in all. What is not more than before changes nothing.
        total: u64,
    },
    /// Readers have given back memory of results of a job, which may have ended.
    ResultsGivenBack {
        /// The job.
        job: JobId,
        /// How much, as it was counted when the results came.
        bytes: u64,
        /// Of how many delivered results this was the rest.
        count: u64,
    },
    /// The results of a job take more or less than was counted: some were dropped or put together, or are known only
    /// now ([`ResultSize::UNKNOWN`]). The job may have ended.
    ResultsRecounted {
        /// The job.
        job: JobId,
        /// How much more.
        change: ResultSize,
    },
    /// The caller is gone.
    JobCancelled {
        /// Its job.
        job: JobId,
    },
    /// A worker can take chunks.
    WorkerReady {
        /// Which.
        worker: WorkerId,
        /// Of what: it is given nothing else.
        functions: FunctionSet,
    },
    /// Results of consecutive items of a chunk arrived, in order and without gaps.
    ItemsFinished {
        /// Who ran them.
        worker: WorkerId,
        /// The chunk.
        chunk: ChunkId,
        /// The offset in the chunk of the first of them.
        first: u32,
        /// How many.
        count: u32,
        /// The offsets in the chunk of those that failed in the user's function, rising.
        failed: Vec<u32>,
        /// How long they ran, all together; zero if that is not known.
        busy: Duration,
        /// What all of them take. It is counted if all are kept, else [`ResultSize::UNKNOWN`] for each part.
        size: ResultSize,
    },
    /// Nobody knows what became of consecutive items of a chunk, the next in order: they have failed. It is all that a
    /// worker left of them, so it proves nothing, neither for their job nor for the slot.
    ItemsLost {
        /// Who had them.
        worker: WorkerId,
        /// The chunk.
        chunk: ChunkId,
        /// The offset in the chunk of the first of them.
        first: u32,
        /// How many.
        count: u32,
        /// As in [`Event::ItemsFinished`].
        size: ResultSize,
    },
    /// A worker gave back the rest of a chunk.
    Recalled {
        /// Who.
        worker: WorkerId,
        /// The chunk.
        chunk: ChunkId,
        /// The offset in the chunk of the first item that never begins there.
        first_not_begun: u32,
    },
    /// The time of the item that a worker runs is up. The item was told, and the worker asked for the rest of its chunk.
    ItemExpired {
        /// Which worker.
        worker: WorkerId,
        /// The item's chunk.
        chunk: ChunkId,
        /// Its offset in the chunk.
        offset: u32,
    },
    /// A worker got SIGTERM since an item did not end when told, and gets SIGKILL later; no effect brought that about.
    WorkerStopping {
        /// Which.
        worker: WorkerId,
        /// [`StopReason::ItemTimeout`] or [`StopReason::Cancelled`].
        reason: StopReason,
    },
    /// A worker holds more memory than one should that goes on working. It is replaced when it has run an item: before
    /// that, another would hold as much.
    MemoryHigh {
        /// Which.
        worker: WorkerId,
    },
    /// A worker process is gone and reaped. All that it finished was reported before.
    WorkerExited {
        /// Which.
        worker: WorkerId,
        /// The item that had begun and has no result: its chunk, and its offset there.
        running: Option<(ChunkId, u32)>,
        /// It could not be started for want of something that the system will have again: file descriptors, memory.
        by_shortage: bool,
    },
    /// The pool is to have this many slots. At least 1.
    Resized {
        /// How many.
        slots: u32,
    },
    /// Every worker that there is now is to be replaced, one slot at a time.
    RestartRequested,
    /// Take nothing new, finish what there is, then stop.
    DrainRequested,
    /// Stop now.
    StopRequested,
    /// [`crate::PoolState::next_wakeup`] has come.
    TimePassed,
}

/// What results take, in bytes; or how much more than was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResultSize {
    /// In memory, with what it takes to keep them.
    pub held: i64,
    /// In the answer of a job that delivers all together.
    pub answer: i64,
}

impl ResultSize {
    /// What is counted of results until [`Event::ResultsRecounted`] says what they take: of [`Effect::FailItem`], and of
    /// [`Effect::StoreResults`] when not all results of the event are kept.
    pub const UNKNOWN: Self = Self { held: 1, answer: 0 };
}

/// What of a stream is not to begin, while results that wait for their reader take too much memory. What has begun goes
/// on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hold {
    /// Nothing: it runs as far ahead as its window allows.
    #[default]
    Nothing,
    /// All but the item whose result the reader waits for, one at a time: the first without outcome if the results are
    /// ordered, else any, when none runs. The reader has taken all that it could have.
    AllButNext,
    /// Everything.
    All,
}

/// Something to be done. In the order in which they were given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Start a worker in its slot.
    SpawnWorker {
        /// Its name.
        worker: WorkerId,
    },
    /// Send a chunk to a worker.
    Dispatch(Dispatch),
    /// Ask a worker to give back what has not begun of a chunk.
    Recall {
        /// Which.
        worker: WorkerId,
        /// The chunk.
        chunk: ChunkId,
        /// Nobody waits for it any more: what runs of it should end.
        cancel: bool,
    },
    /// Ask an idle worker to exit.
    Shutdown {
        /// Which.
        worker: WorkerId,
        /// Why.
        reason: StopReason,
    },
    /// SIGTERM.
    Terminate {
        /// Which.
        worker: WorkerId,
        /// Why.
        reason: StopReason,
    },
    /// SIGKILL.
    Kill {
        /// Which.
        worker: WorkerId,
        /// Why.
        reason: StopReason,
    },
    /// Keep some of the results that the current [`Event::ItemsFinished`] or [`Event::ItemsLost`] brought; the others are
    /// late answers.
    StoreResults {
        /// The job.
        job: JobId,
        /// The index in the job of the first.
        first_index: u64,
        /// Its position among the results of the event.
        skip: u32,
        /// How many.
        count: u32,
    },
    /// An item has failed for good, other than in the user's function.
    FailItem {
        /// The job.
        job: JobId,
        /// The index of the item.
        index: u64,
        /// Which execution of it was the last, from 1.
        attempt: u32,
        /// Why.
        cause: FailureCause,
    },
    /// Hand the stored outcomes of these items to the reader.
    Deliver {
        /// The job.
        job: JobId,
        /// The index of the first.
        first_index: u64,
        /// How many.
        count: u64,
    },
    /// Every item has its outcome, and all were delivered but for [`crate::Delivery::Whole`]. The job is forgotten.
    CompleteJob {
        /// The job.
        job: JobId,
    },
    /// The job ends without an answer. It is forgotten; what still runs of it is discarded.
    FailJob {
        /// The job.
        job: JobId,
        /// Why.
        failure: JobFailure,
    },
    /// A stream was paused or resumed, since its results took too much memory or no longer do. For people.
    HoldChanged {
        /// The stream's job.
        job: JobId,
        /// What of it does not begin from now on.
        hold: Hold,
    },
    /// A slot gets no worker for a while: its last ones finished nothing, while others work. For people.
    SlotHeld {
        /// Which.
        slot: SlotId,
        /// For how long.
        wait: Duration,
    },
    /// The worker of a slot that was held back has finished an item. For people.
    SlotHealed {
        /// Which.
        slot: SlotId,
    },
    /// Every worker that there was at the last [`Event::RestartRequested`] has been replaced.
    RestartFinished,
    /// The pool drains before that: whoever is old stays.
    RestartGivenUp,
    /// Tell the world.
    ReadinessChanged(Readiness),
}

/// A chunk for a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatch {
    /// Who runs it.
    pub worker: WorkerId,
    /// Its name.
    pub chunk: ChunkId,
    /// Whose items.
    pub job: JobId,
    /// The index of the first item.
    pub first_index: u64,
    /// How many.
    pub count: u32,
    /// Which execution of these items this is, from 1.
    pub attempt: u32,
    /// The longest that one of these items may run.
    pub time_limit: Option<Duration>,
    /// It has come back so often before it began that the worker is left alone with it: it is neither asked back nor is
    /// the worker replaced before it has run.
    pub left_alone: bool,
}

/// Why a worker is made to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// It did not become ready in time.
    StartTimeout,
    /// It has run as many items as a worker may.
    MaxItems,
    /// It is as old as a worker may get.
    MaxAge,
    /// It has been idle for too long.
    Idle,
    /// It holds more memory than one should that goes on working.
    Memory,
    /// Its item ran too long and did not end when asked.
    ItemTimeout,
    /// Its item was cancelled and did not end when asked.
    Cancelled,
    /// Every worker is being replaced.
    Restart,
    /// An item that failed here is to be tried again, and nowhere else is there a worker for it.
    Retry,
    /// The pool has fewer slots now.
    Resize,
    /// The pool is shutting down.
    Drain,
}

/// Why an item failed, other than in the user's function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureCause {
    /// The worker of the current [`Event::WorkerExited`] died while it ran the item.
    WorkerDied,
    /// The item killed this many workers, the one of the current event last.
    CrashLimit {
        /// How many.
        crashes: u32,
    },
    /// It ran longer than this limit.
    TimedOut {
        /// The limit.
        limit: Duration,
    },
}

/// Why a job ended without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobFailure {
    /// An item failed, and the first failure ends the job.
    ItemFailed {
        /// The index of the item.
        index: u64,
    },
    /// The deadline passed.
    DeadlineExceeded {
        /// Some item may have been executed.
        started: bool,
    },
    /// Nothing has started, and it could not be done by its deadline, by the measured run times.
    DeadlineUnreachable {
        /// What it may take, with a margin.
        expected: Duration,
        /// What was left until the deadline.
        remaining: Duration,
        /// When it may be worth trying again.
        retry_after: Duration,
    },
    /// Its results are more than its answer can hold.
    ResultsTooLarge {
        /// What they take in the answer so far.
        bytes: u64,
        /// What it can hold.
        limit: u64,
    },
    /// It holds more than its share of a budget that is used up.
    ResultsFull {
        /// What all jobs that deliver all together may hold.
        limit: u64,
    },
    /// So many workers died with its items at hand, the one of the current [`Event::WorkerExited`] last, and none has
    /// finished any: what the items have in common kills.
    CrashLimit {
        /// How many.
        crashes: u32,
    },
    /// No worker has the function, and none that is being started is expected to.
    NoFunction {
        /// Some item may have been executed: there were workers that had it.
        started: bool,
    },
    /// The caller went away.
    Cancelled,
    /// The pool is shutting down.
    Draining {
        /// Some item may have been executed.
        started: bool,
    },
    /// No worker could be started.
    Degraded {
        /// Some item may have been executed.
        started: bool,
    },
}

/// Whether the pool takes jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// No worker has been ready yet; jobs wait.
    Starting,
    /// Workers are there, or will be in a moment.
    Ready,
    /// No worker is alive, and starting them keeps failing, or they die at once. The pool goes on trying; jobs are refused.
    Degraded,
    /// The pool finishes what it has.
    Draining,
    /// Every worker is gone, for good.
    Stopped,
}
