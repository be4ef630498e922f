//! The three kinds of errors, never mixed: the user's function failed and a worker failed are data of one item
//! ([`ItemFailure`]); the pool refused or gave up a call is [`CallError`].

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use procpool_scheduler::StopReason;

/// Why one item has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemFailure {
    /// The user's function raised. The worker lives on.
    #[error("{}", raised_message(.kind, .message))]
    Raised {
        /// The type of the error in its language, such as `ValueError`; may be empty.
        kind: String,
        /// What it says.
        message: String,
        /// Where, as the language prints it; may be empty.
        traceback: String,
        /// The error in the form of its language, such as a pickled exception; may be empty.
        data: Bytes,
    },
    /// The function returned what cannot be sent. The worker lives on.
    #[error("the result cannot be encoded: {message}")]
    ResultNotEncodable {
        /// Why.
        message: String,
    },
    /// The function cannot be called with this item. The worker lives on.
    #[error("the item cannot be used: {message}")]
    InvalidItem {
        /// What is wrong with the call.
        part: CallPart,
        /// Why.
        message: String,
    },
    /// The worker died while it ran the item.
    #[error("worker process {pid} {exit} while it ran the item (attempt {attempt})")]
    WorkerCrashed {
        /// How it ended.
        exit: WorkerExit,
        /// Its process id; 0 if it never told.
        pid: u32,
        /// Which execution of the item it was, from 1.
        attempt: u32,
        /// What the worker had used.
        usage: ExitUsage,
        /// The end of what it wrote to stderr.
        stderr_tail: String,
    },
    /// The item killed as many workers as one item may.
    #[error("the item killed {attempts} workers; the last one {exit}")]
    CrashLimit {
        /// How many.
        attempts: u32,
        /// How the last one ended.
        exit: WorkerExit,
        /// What the last one had used.
        usage: ExitUsage,
        /// The end of what the last one wrote to stderr.
        stderr_tail: String,
    },
    /// The item ran longer than it may.
    #[error("the item ran longer than its limit of {limit:?} (attempt {attempt})")]
    ItemTimeout {
        /// The limit.
        limit: Duration,
        /// Which execution of the item it was, from 1.
        attempt: u32,
        /// The stacks of the worker's threads at that moment, that of the item first; empty if they are not known.
        stack: String,
    },
    /// The worker broke the protocol and was killed.
    #[error("the worker broke the protocol: {detail}")]
    WorkerProtocol {
        /// How.
        detail: String,
    },
}

impl ItemFailure {
    /// Returns how many bytes its texts and its data take.
    pub(crate) fn num_bytes(&self) -> usize {
        let evidence = match self {
            Self::Raised { traceback, data, .. } => traceback.len() + data.len(),
            Self::WorkerCrashed { stderr_tail, .. } | Self::CrashLimit { stderr_tail, .. } => stderr_tail.len(),
            Self::ItemTimeout { stack, .. } => stack.len(),
            Self::ResultNotEncodable { .. } | Self::InvalidItem { .. } | Self::WorkerProtocol { .. } => 0,
        };
        self.text_bytes() + evidence
    }

    /// Returns how many of them can't be left out.
    pub(crate) fn text_bytes(&self) -> usize {
        match self {
            Self::Raised { kind, message, .. } => kind.len() + message.len(),
            Self::ResultNotEncodable { message } | Self::InvalidItem { message, .. } => message.len(),
            Self::WorkerCrashed { exit, .. } | Self::CrashLimit { exit, .. } => exit.num_bytes(),
            Self::ItemTimeout { .. } => 0,
            Self::WorkerProtocol { detail } => detail.len(),
        }
    }

    /// Drops what helps to find the cause and exceeds `budget`, and takes the rest from it.
    pub(crate) fn limit_evidence(&mut self, budget: &mut usize) {
        let mut is_within = |num_bytes: usize| {
            let left = budget.checked_sub(num_bytes);
            *budget = left.unwrap_or(*budget);
            left.is_some()
        };
        let text = match self {
            Self::Raised { traceback, data, .. } => {
                // First, since it is what a program needs, and mostly the shorter one.
                if !is_within(data.len()) {
                    *data = Bytes::new();
                }
                traceback
            }
            Self::WorkerCrashed { stderr_tail, .. } | Self::CrashLimit { stderr_tail, .. } => stderr_tail,
            Self::ItemTimeout { stack, .. } => stack,
            Self::ResultNotEncodable { .. } | Self::InvalidItem { .. } | Self::WorkerProtocol { .. } => return,
        };
        if !is_within(text.len()) {
            *text = String::new();
        }
    }
}

/// A part of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CallPart {
    /// The item; of a call in the style Apply the positional arguments.
    #[default]
    Item,
    /// The argument that all items share.
    Common,
    /// The keyword arguments.
    Kwargs,
}

fn raised_message(kind: &str, message: &str) -> String {
    match (kind.is_empty(), message.is_empty()) {
        (true, _) => message.to_owned(),
        (false, true) => kind.to_owned(),
        (false, false) => format!("{kind}: {message}"),
    }
}

/// How a worker process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerExit {
    /// It exited with this code, 0 included.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// It held more memory than a worker may, with all that it had started, and we killed it.
    MemoryLimit {
        /// How much it held when that was last looked at, in bytes.
        rss_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The kernel killed it for want of memory.
    KernelOom,
    /// It broke the protocol, and we killed it.
    Protocol(String),
    /// It did not become ready in time, and we killed it.
    StartTimeout,
    /// We killed it for another reason.
    GivenUp {
        /// Why, as the end of a sentence about the worker.
        reason: &'static str,
    },
    /// It could not be started at all.
    SpawnFailed {
        /// What the system says.
        reason: String,
        /// What is missing comes back: file descriptors, memory, room for processes.
        by_shortage: bool,
    },
}

impl WorkerExit {
    /// Returns how many bytes its text takes.
    fn num_bytes(&self) -> usize {
        match self {
            Self::Protocol(text) | Self::SpawnFailed { reason: text, .. } => text.len(),
            Self::Code(_)
            | Self::Signal(_)
            | Self::MemoryLimit { .. }
            | Self::KernelOom
            | Self::StartTimeout
            | Self::GivenUp { .. } => 0,
        }
    }

    /// Returns whether we killed it.
    pub(crate) fn is_ours(&self) -> bool {
        match self {
            Self::MemoryLimit { .. } | Self::Protocol(_) | Self::StartTimeout | Self::GivenUp { .. } => true,
            Self::Code(_) | Self::Signal(_) | Self::KernelOom | Self::SpawnFailed { .. } => false,
        }
    }

    /// Returns whether it was killed for its memory.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::MemoryLimit { .. } | Self::KernelOom)
    }
}

/// Returns why a worker is gone, in a word: why we made it stop, else how it ended. The set of words is closed.
pub fn exit_reason(exit: &WorkerExit, stop_reason: Option<StopReason>) -> &'static str {
    match (stop_reason, exit) {
        (Some(StopReason::StartTimeout), _) | (None, WorkerExit::StartTimeout) => "start_timeout",
        (Some(StopReason::MaxItems), _) => "max_items",
        (Some(StopReason::MaxAge), _) => "max_age",
        (Some(StopReason::Idle), _) => "idle",
        (Some(StopReason::Memory), _) => "memory",
        (Some(StopReason::ItemTimeout), _) => "item_timeout",
        (Some(StopReason::Cancelled), _) => "cancelled",
        (Some(StopReason::Retry), _) => "retry",
        (Some(StopReason::Restart), _) => "restart",
        (Some(StopReason::Resize), _) => "resize",
        (Some(StopReason::Drain), _) => "drain",
        (None, WorkerExit::Code(_)) => "exited",
        (None, WorkerExit::Signal(_)) => "signal",
        (None, WorkerExit::MemoryLimit { .. } | WorkerExit::KernelOom) => "oom",
        (None, WorkerExit::Protocol(_)) => "protocol",
        (None, WorkerExit::GivenUp { .. }) => "given_up",
        (None, WorkerExit::SpawnFailed { .. }) => "spawn_failed",
    }
}

/// What a worker process had used when it was gone. `None` where that is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExitUsage {
    /// The most memory that it, or one of the processes that it started and waited for, has had. Known if it is more
    /// than what the server had when it started the worker: the kernel does not tell what is less.
    pub peak_rss_bytes: Option<u64>,
    /// The processor time of these processes, in user and kernel mode.
    pub cpu_time: Option<Duration>,
}

impl fmt::Display for WorkerExit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "exited with code {code}"),
            Self::Signal(signal) => write!(formatter, "was killed by signal {signal}"),
            Self::MemoryLimit { rss_bytes, limit_bytes } => {
                let (held, limit) = (rss_bytes.div_ceil(1 << 20), limit_bytes >> 20);
                write!(formatter, "held {held} MiB of memory, over its limit of {limit} MiB, and was killed")
            }
            Self::KernelOom => write!(formatter, "was killed by the kernel because memory ran out"),
            Self::Protocol(detail) => write!(formatter, "broke the protocol ({detail})"),
            Self::StartTimeout => write!(formatter, "did not become ready in time"),
            Self::GivenUp { reason } => write!(formatter, "was killed by the server because {reason}"),
            Self::SpawnFailed { reason, .. } => write!(formatter, "could not be started ({reason})"),
        }
    }
}

/// Why there is no dump of a worker's stacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DumpFailure {
    /// There is no such worker, or not any more.
    #[error("there is no such worker, or not any more")]
    NoSuchWorker,
    /// It cannot dump its stacks, or not yet.
    #[error("this worker cannot dump its stacks: its SDK has no means for that, or it is still starting")]
    NotSupported,
    /// It did not answer.
    #[error("the worker did not answer in time: it may be stopped, or the machine is very busy")]
    NoAnswer,
    /// Too much is being asked of it.
    #[error("too much is being asked of this worker at this moment")]
    Busy,
    /// The pool has stopped.
    #[error("the pool is shutting down")]
    PoolStopped,
}

/// Where a call was when its deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadlinePhase {
    /// None of its items had started.
    Queued,
    /// Some had.
    Running,
}

/// One item that failed.
#[derive(Debug, Clone)]
pub struct ItemError {
    /// The index of the item in the caller's list.
    pub index: u64,
    /// What happened.
    pub failure: ItemFailure,
}

/// Why a call as a whole has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// Too much is queued. Nothing has started; try again later.
    #[error("the queue is full: {what} would pass the limit of {limit}")]
    QueueFull {
        /// What there is too much of, such as `items` or `bytes`.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// When it may be worth trying again.
        retry_after: Duration,
    },
    /// The call alone has more than the pool holds at all. Nothing has started, and trying again is of no use.
    #[error("the call has {num} {what}, and the queue holds {limit}: send it in parts")]
    LargerThanQueue {
        /// What there is too much of, such as `items` or `bytes`.
        what: &'static str,
        /// How much of it.
        num: u64,
        /// The limit.
        limit: u64,
    },
    /// The results of a call that answers at once are more than the answer can hold.
    #[error("the results take {bytes} bytes or more, and the answer can hold {limit}")]
    ResultsTooLarge {
        /// What those take that there were.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The pool has no room for the results of a call that answers at once. Some items have been executed.
    #[error(
        "the results of all calls would take more than {limit} bytes: try again when less is going on, or use a stream"
    )]
    ResultsFull {
        /// The limit.
        limit: u64,
    },
    /// The pool is shutting down.
    #[error("the pool is shutting down")]
    Draining {
        /// Some items may have been executed.
        started: bool,
    },
    /// No worker could be started.
    #[error("no worker could be started: {reason}")]
    Degraded {
        /// How the last attempt ended.
        reason: String,
        /// Some items may have been executed.
        started: bool,
        /// When it may be worth trying again.
        retry_after: Duration,
    },
    /// No worker registered this function, or none that is left.
    #[error("no worker {} a function {name:?}", if *.started { "has any more" } else { "registered" })]
    FunctionNotFound {
        /// The name that was asked for.
        name: String,
        /// The nearest names that are registered, best first; may be empty.
        nearest: Vec<String>,
        /// Some items may have been executed, while workers had it.
        started: bool,
    },
    /// An item failed, and the call was to fail with the first failure.
    #[error("item {} failed: {}", .0.index, .0.failure)]
    ItemFailed(Box<ItemError>),
    /// Workers died with the call's items at hand, and none finished any. What the items have in common is at fault, such
    /// as their common argument.
    #[error(
        "{crashes} workers died with items of this call before any item was finished; the last one {exit}. \
         What its items have in common, such as the common argument, kills workers: look at the last one's stderr, or send less"
    )]
    CrashLimit {
        /// How many.
        crashes: u32,
        /// How the last one ended.
        exit: WorkerExit,
        /// What the last one had used.
        usage: ExitUsage,
        /// The end of what the last one wrote to stderr.
        stderr_tail: String,
    },
    /// The call's deadline passed.
    #[error("the deadline passed")]
    DeadlineExceeded {
        /// Where the call was.
        phase: DeadlinePhase,
    },
    /// The call could not be done by its deadline, by the measured run times. Nothing has started; try again later.
    #[error("with what is queued before it the call may take {expected:.1?}, and its deadline is in {remaining:.1?}")]
    DeadlineUnreachable {
        /// What it may take, with a margin.
        expected: Duration,
        /// What was left until the deadline.
        remaining: Duration,
        /// When it may be worth trying again.
        retry_after: Duration,
    },
    /// The workers have an SDK from before there were common arguments.
    #[error("the workers of this pool take no common argument: their SDK is too old for it")]
    CommonNotTaken,
    /// No frame to a worker can hold the common argument.
    #[error("the common argument has {bytes} bytes, and a worker takes at most {limit}")]
    CommonTooLong {
        /// Its length.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A list of items in a stream is of another kind than the first.
    #[error("all messages of a call must send the same kind of items")]
    MixedKinds,
    /// The call was cancelled: its caller has given it up, or somebody else has ended it.
    #[error("the job was ended before it was done")]
    Cancelled,
    /// An operator has ended the call. Some items may have been executed.
    #[error("an operator cancelled the call (job {job})")]
    CancelledByOperator {
        /// The number of its job.
        job: u64,
    },
    /// The job has ended, and its results say why: more items are of no use. No job ends with this.
    #[error("the job has ended")]
    JobEnded,
    /// The pool's task is gone: a bug, or the runtime shut down. No job of a pool that lives ends with this.
    #[error("the pool is gone")]
    PoolGone,
}
