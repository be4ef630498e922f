//! What a worker prints: stdout and stderr belong to the user's code, and become log lines, or are printed unchanged.
//!
//! As log lines, reading goes on whatever comes, so that the worker never blocks on a full pipe; what is too long or too
//! much is dropped and counted. What is printed is complete; the worker waits if nobody reads it ([`printer`]). Memory is
//! bounded by one line a stream and the tail of stderr.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::time::Instant;

use self::line::{LineBuffer, Tail, printable};
pub(super) use self::printer::Printer;
use self::printer::{Batch, WholeLines};

mod line;
mod printer;

/// The most lines a second that one worker gets into the log.
const MAX_LINES_PER_SECOND: u32 = 1_000;
const READ_BYTES: usize = 16 << 10;
/// How long the last lines of a dead worker may wait to be printed.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(2);

/// Whose output it is, and what ran when it was read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OutputContext {
    pub(super) worker: u64,
    pub(super) slot: u32,
    pub(super) pid: u32,
    pub(super) job: Option<u64>,
    pub(super) chunk: Option<u64>,
    /// The index in the caller's list of the item that ran, if it is certain.
    pub(super) item: Option<u64>,
}

/// The two streams of one worker.
#[derive(Debug)]
pub(super) struct Output {
    stdout: Stream,
    stderr: Stream,
    budget: LineBudget,
    tail: Tail,
    buffer: Box<[u8]>,
    /// `None`: lines are logged.
    printer: Option<Printer>,
}

#[derive(Debug)]
struct Stream {
    /// `None` once it has ended.
    pipe: Option<pipe::Receiver>,
    /// Of what is logged.
    line: LineBuffer,
    /// Of what is printed.
    whole: WholeLines,
}

/// How a stream is read.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// Some of what the runtime has noticed: something else should get its turn.
    Noticed,
    /// What is there, noticed or not, up to a bound.
    Present,
    /// All that a dead worker has left: more than a pipe holds.
    Last,
}

impl Turn {
    fn max_bytes(self) -> usize {
        match self {
            // One read: deadlines are looked at between any two.
            Self::Noticed => 1,
            // What a pipe holds.
            Self::Present => 64 << 10,
            Self::Last => 2 << 20,
        }
    }
}

impl Output {
    /// Takes the reading ends of the worker's pipes, and what prints what comes; without it, lines are logged.
    ///
    /// # Errors
    ///
    /// If the runtime cannot watch them.
    pub(super) fn new(stdout: OwnedFd, stderr: OwnedFd, printer: Option<Printer>) -> io::Result<Self> {
        Ok(Self {
            stdout: Stream::new(stdout)?,
            stderr: Stream::new(stderr)?,
            budget: LineBudget::new(),
            tail: Tail::default(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            printer,
        })
    }

    /// Waits until there is something to read, and room for it; forever if both streams have ended.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub(super) async fn readable(&self) {
        if let Some(printer) = &self.printer {
            printer.has_room().await;
        }
        tokio::select! {
            () = self.stdout.readable() => {}
            () = self.stderr.readable() => {}
        }
    }

    /// Takes some of what [`Output::readable`] has noticed. `context` is asked once a line.
    pub(super) fn read(&mut self, context: impl Fn() -> OutputContext) {
        self.read_turn(Turn::Noticed, &context);
    }

    /// Takes what the worker has written so far, up to a bound, even if the runtime has not noticed it yet.
    pub(super) fn read_present(&mut self, context: impl Fn() -> OutputContext) {
        self.read_turn(Turn::Present, &context);
    }

    /// Takes the rest of what a dead worker has written. Does not wait for the end of the streams: a grandchild may hold
    /// them open. Returns the end of stderr.
    pub(super) async fn finish(&mut self, context: impl Fn() -> OutputContext) -> String {
        if let Some(printer) = self.printer.clone() {
            let printed = tokio::time::timeout(LAST_LINES_TIMEOUT, self.print_last(&printer)).await;
            if printed.is_err() {
                let OutputContext { worker, slot, pid, .. } = context();
                tracing::warn!(
                    worker,
                    slot,
                    pid,
                    "the last lines of a worker are lost: nobody reads what this process prints"
                );
            }
            return self.tail.text();
        }
        self.log_turn(Turn::Last, &context);
        let budget = &mut self.budget;
        self.stdout.line.finish(|text, is_cut| budget.log("stdout", text, is_cut, &context));
        self.stderr.line.finish(|text, is_cut| budget.log("stderr", text, is_cut, &context));
        budget.report_dropped(&context);
        self.tail.text()
    }

    fn read_turn(&mut self, turn: Turn, context: &impl Fn() -> OutputContext) {
        let Some(printer) = self.printer.clone() else { return self.log_turn(turn, context) };
        // Without room it stays in the pipe.
        let Some(room) = printer.room() else { return };
        let (batch, _) = self.next_batch(turn);
        if !batch.is_empty() {
            printer.print_in(room, batch);
        }
    }

    async fn print_last(&mut self, printer: &Printer) {
        let mut total = 0;
        loop {
            let (mut batch, num_bytes) = self.next_batch(Turn::Present);
            total += num_bytes;
            let is_last = num_bytes == 0 || total > Turn::Last.max_bytes();
            if is_last {
                self.stdout.whole.finish(&mut batch.stdout);
                self.stderr.whole.finish(&mut batch.stderr);
            }
            if !batch.is_empty() {
                printer.print(batch).await;
            }
            if is_last {
                return;
            }
        }
    }

    /// Reads what is printed next. Returns how much was read, too.
    fn next_batch(&mut self, turn: Turn) -> (Batch, usize) {
        let Self { stdout, stderr, tail, buffer, .. } = self;
        let (mut batch, mut num_bytes) = (Batch::default(), 0);
        stdout.read(turn, buffer, |stream, bytes| {
            num_bytes += bytes.len();
            stream.whole.feed(bytes, &mut batch.stdout);
        });
        stderr.read(turn, buffer, |stream, bytes| {
            num_bytes += bytes.len();
            tail.push(bytes);
            stream.whole.feed(bytes, &mut batch.stderr);
        });
        (batch, num_bytes)
    }

    fn log_turn(&mut self, turn: Turn, context: &impl Fn() -> OutputContext) {
        let Self { stdout, stderr, budget, tail, buffer, .. } = self;
        stdout.read(turn, buffer, |stream, bytes| {
            stream.line.feed(bytes, |text, is_cut| budget.log("stdout", text, is_cut, context));
        });
        stderr.read(turn, buffer, |stream, bytes| {
            tail.push(bytes);
            stream.line.feed(bytes, |text, is_cut| budget.log("stderr", text, is_cut, context));
        });
    }
}

impl Stream {
    fn new(pipe: OwnedFd) -> io::Result<Self> {
        let pipe = Some(pipe::Receiver::from_owned_fd(pipe)?);
        Ok(Self { pipe, line: LineBuffer::default(), whole: WholeLines::default() })
    }

    async fn readable(&self) {
        match &self.pipe {
            Some(pipe) if pipe.readable().await.is_ok() => {}
            // Ended, or the runtime is shutting down.
            _ => std::future::pending().await,
        }
    }

    fn read(&mut self, turn: Turn, buffer: &mut [u8], mut feed: impl FnMut(&mut Self, &[u8])) {
        let mut total = 0;
        while let Some(pipe) = &self.pipe
            && total < turn.max_bytes()
        {
            let read = match turn {
                Turn::Noticed => pipe.try_read(buffer),
                Turn::Present | Turn::Last => rustix::io::read(pipe, &mut *buffer).map_err(io::Error::from),
            };
            match read {
                Ok(0) => self.pipe = None,
                Ok(length) => {
                    total += length;
                    feed(self, &buffer[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.pipe = None,
            }
        }
    }
}

/// How many lines may still be logged in this second, and how many were not.
#[derive(Debug)]
struct LineBudget {
    second_began: Instant,
    lines: u32,
    dropped: u64,
}

impl LineBudget {
    fn new() -> Self {
        Self { second_began: Instant::now(), lines: 0, dropped: 0 }
    }

    fn log(&mut self, stream: &'static str, text: &[u8], is_cut: bool, context: &impl Fn() -> OutputContext) {
        if self.second_began.elapsed() >= Duration::from_secs(1) {
            self.report_dropped(context);
            self.second_began = Instant::now();
            self.lines = 0;
        }
        if self.lines == MAX_LINES_PER_SECOND {
            if self.dropped == 0 {
                Self::report_limit(&context());
            }
            self.dropped += 1;
            return;
        }
        self.lines += 1;
        let line = printable(text, is_cut);
        let OutputContext { worker, slot, pid, job, chunk, item } = context();
        if stream == "stderr" {
            tracing::warn!(target: "procpool::worker_output", worker, slot, pid, stream, job, chunk, item, "{line}");
        } else {
            tracing::info!(target: "procpool::worker_output", worker, slot, pid, stream, job, chunk, item, "{line}");
        }
    }

    /// Logs at once that lines are dropped: how many is known only when the second is over, and the worker may be silent then.
    fn report_limit(context: &OutputContext) {
        tracing::warn!(
            target: "procpool::worker_output",
            worker = context.worker,
            slot = context.slot,
            pid = context.pid,
            max_lines_per_second = MAX_LINES_PER_SECOND,
            "worker output rate-limited; the other lines of this second are dropped"
        );
    }

    fn report_dropped(&mut self, context: &impl Fn() -> OutputContext) {
        if self.dropped > 0 {
            let context = context();
            tracing::warn!(
                target: "procpool::worker_output",
                worker = context.worker,
                slot = context.slot,
                pid = context.pid,
                dropped_lines = self.dropped,
                max_lines_per_second = MAX_LINES_PER_SECOND,
                "worker output rate-limited; lines were dropped"
            );
            self.dropped = 0;
        }
    }
}
