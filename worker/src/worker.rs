//! A worker: its functions, and the loop that runs chunks.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use bytes::Bytes;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_ipc::proto::{self, Hello, Ready};
use procpool_ipc::{PROTOCOL_VERSION, encode_worker_frame};
use serde::Serialize;

use crate::adapter::{Adapter, DumpSignal};
use crate::arguments::Arguments;
use crate::channel::Channel;
use crate::chunk::{Chunk, protocol_error};
use crate::connect::{Connection, connect};
use crate::current::Running;
use crate::error::WorkerError;
use crate::failure::{Failure, catch_panic, remember_panics};
use crate::function::{Callable, Function, Output};
use crate::io_thread::run_io_thread;
use crate::results::Sender;
use crate::state::{CancelHook, QueuedRun};
use crate::wait::Waiter;

/// A buffer that has grown beyond this for one result is shrunk.
const MAX_KEPT_BUFFER_BYTES: usize = 1 << 20;

type Initializer = Box<dyn FnOnce() -> Result<(), Box<dyn Error + Send + Sync>> + Send>;

/// A worker and its functions.
#[derive(Default)]
pub struct Worker {
    functions: HashMap<String, Function>,
    initializer: Option<Initializer>,
    cancel_hook: Option<CancelHook>,
    adapter: Adapter,
}

impl Worker {
    /// Returns a worker without functions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a function.
    ///
    /// # Panics
    ///
    /// If there is one of this name already.
    #[must_use]
    pub fn register(mut self, function: Function) -> Self {
        self.add(function);
        self
    }

    fn add(&mut self, function: Function) {
        let name = function.name().to_owned();
        let previous = self.functions.insert(name, function);
        if let Some(previous) = previous {
            panic!("there are two functions {:?}", previous.name());
        }
    }

    /// Adds a function that does not return a `Result`: [`Function::new`].
    ///
    /// # Panics
    ///
    /// As [`Function::new`] and [`Worker::register`].
    #[must_use]
    pub fn function<A, F>(self, name: &str, function: F) -> Self
    where
        A: Arguments,
        F: Callable<A>,
        F::Output: Serialize,
    {
        self.register(Function::new(name, function))
    }

    /// Adds a function that returns a `Result`: [`Function::fallible`].
    ///
    /// # Panics
    ///
    /// As [`Function::fallible`] and [`Worker::register`].
    #[must_use]
    pub fn try_function<A, F, T, E>(self, name: &str, function: F) -> Self
    where
        A: Arguments,
        F: Callable<A, Output = Result<T, E>>,
        T: Serialize,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.register(Function::fallible(name, function))
    }

    /// Adds a function from bytes to bytes: [`Function::bytes`].
    ///
    /// # Panics
    ///
    /// As [`Function::bytes`] and [`Worker::register`].
    #[must_use]
    pub fn bytes_function<F, T, E>(self, name: &str, function: F) -> Self
    where
        F: FnMut(Bytes) -> Result<T, E> + Send + 'static,
        T: Into<Bytes>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.register(Function::bytes(name, function))
    }

    /// Sets a function that runs once, before the first item; if it fails, so does the worker.
    #[must_use]
    pub fn initializer<F, E>(mut self, initializer: F) -> Self
    where
        F: FnOnce() -> Result<(), E> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.initializer = Some(Box::new(|| initializer().map_err(Into::into)));
        self
    }

    /// Sets a hook that is called when the running item is cancelled: from then on [`cancelled`](crate::cancelled) is
    /// true until the item has ended. For functions that block and can be woken. The hook is called on another thread
    /// under a lock that sending needs, so it must be quick. The item may end at the same moment, but no other begins
    /// before the hook returns: so wake the blocked function, let it check `cancelled`, and remember nothing for later.
    #[must_use]
    pub fn on_cancel(mut self, hook: impl Fn() + Send + 'static) -> Self {
        self.cancel_hook = Some(Box::new(hook));
        self
    }

    /// Sets what an adapter to another language needs.
    #[must_use]
    pub fn adapter(mut self, adapter: Adapter) -> Self {
        self.adapter = adapter;
        self
    }

    /// Runs the worker on the calling thread until the server ends it, and returns the exit code: 1 after an error,
    /// which is written to stderr.
    pub fn main(self) -> ExitCode {
        match self.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Without stderr, the error cannot be reported.
                let _ = writeln!(std::io::stderr(), "worker failed: {error}");
                ExitCode::FAILURE
            }
        }
    }

    /// Runs the worker on the calling thread until the server ends it. `PROCPOOL_FD` or `PROCPOOL_SOCKET` names the
    /// connection.
    ///
    /// Exits the process if the server goes away in the middle of an item.
    ///
    /// # Errors
    ///
    /// If the program was not started by a pool, its initialiser fails, or the connection does.
    pub fn run(self) -> Result<(), WorkerError> {
        self.run_on(connect()?)
    }

    /// Like [`Worker::run`], with a connected socket. A process runs one worker at a time.
    ///
    /// # Errors
    ///
    /// As [`Worker::run`].
    pub fn run_on(self, socket: OwnedFd) -> Result<(), WorkerError> {
        match self.serve(socket) {
            Err(error) if error.is_disconnect() => Ok(()),
            result => result,
        }
    }

    fn serve(mut self, socket: OwnedFd) -> Result<(), WorkerError> {
        remember_panics();
        let Connection { socket, decoder, welcome, page, dump_pipe } = Connection::open(socket)?;
        let uses_progress_page = page.is_some();
        let sender = Sender::new(socket, welcome.max_frame_bytes, page);
        let max_result_bytes = sender.max_result_bytes();
        let channel = Channel::new(sender, decoder, self.cancel_hook.take(), self.adapter.disconnect_hook.take())?;
        let waiter = std::mem::take(&mut self.adapter.waiter);
        if waiter.has_hook() {
            channel.tick()?;
        }
        let dump_signal =
            self.adapter.dump_hook.take().zip(dump_pipe).and_then(|(register, dump_pipe)| register(dump_pipe));

        std::thread::scope(|scope| {
            // Ends the I/O thread however this ends.
            let _end = EndOnDrop(&channel);
            std::thread::Builder::new()
                .name("procpool-io".to_owned())
                .stack_size(256 << 10)
                .spawn_scoped(scope, || run_io_thread(&channel))?;
            self.load()?;
            let hello = self.hello(uses_progress_page, dump_signal);
            let hello_length = encode_worker_frame(hello.clone()).len();
            if hello_length > welcome.max_frame_bytes as usize {
                return Err(WorkerError::HelloTooLong { length: hello_length, limit: welcome.max_frame_bytes });
            }
            waiter.wait(|| channel.send(hello))??;
            channel.serve();
            self.initialize(&channel)?;
            waiter.wait(|| channel.send(WorkerFrame::Ready(Ready {})))??;
            self.run_chunks(&channel, &waiter, max_result_bytes)
        })
        .inspect_err(|error| {
            if error.is_disconnect() {
                channel.disconnected();
            }
        })
    }

    fn load(&mut self) -> Result<(), WorkerError> {
        let Some(loader) = self.adapter.loader.take() else { return Ok(()) };
        loader().map_err(WorkerError::Loader)?.into_iter().for_each(|function| self.add(function));
        Ok(())
    }

    fn hello(&self, uses_progress_page: bool, dump_signal: Option<DumpSignal>) -> WorkerFrame {
        let mut functions: Vec<proto::Function> =
            self.functions.values().map(|function| function.description.clone()).collect();
        functions.sort_by(|left, right| left.name.cmp(&right.name));
        let sdk = self.adapter.sdk.as_deref().unwrap_or(concat!("procpool-worker ", env!("CARGO_PKG_VERSION")));
        let (dump_signal, dump_end) = dump_signal.map_or_else(Default::default, |dump| (dump.number, dump.end));
        WorkerFrame::Hello(Hello {
            protocol_version: PROTOCOL_VERSION,
            sdk: sdk.to_owned(),
            pid: std::process::id(),
            functions,
            uses_progress_page,
            takes_common: true,
            dump_signal,
            dump_end,
        })
    }

    fn initialize(&mut self, channel: &Channel) -> Result<(), WorkerError> {
        let Some(initializer) = self.initializer.take() else { return Ok(()) };
        channel.enter_work();
        let outcome = catch_panic(|| initializer().map_err(Failure::raised));
        channel.leave_work();
        outcome.map_err(|failure| WorkerError::Initializer(failure.into_message()))
    }

    fn run_chunks(&mut self, channel: &Channel, waiter: &Waiter, max_result_bytes: usize) -> Result<(), WorkerError> {
        let mut buffer = Vec::new();
        loop {
            match channel.next_chunk(waiter)? {
                Some(queued) => self.run_chunk((channel, waiter), &queued, &mut buffer, max_result_bytes)?,
                None => return Ok(()),
            }
            clear_buffer(&mut buffer);
        }
    }

    fn run_chunk(
        &mut self,
        (channel, waiter): (&Channel, &Waiter),
        QueuedRun { run, common }: &QueuedRun,
        buffer: &mut Vec<u8>,
        max_result_bytes: usize,
    ) -> Result<(), WorkerError> {
        let chunk = Chunk::new(run)?;
        let mut contents = chunk.contents();
        let mut function = self.functions.get_mut(&run.function);
        let running = Running::new(run);
        let mut offset = 0;
        let mut is_begun = channel.begin(waiter)?;
        while is_begun {
            running.set_offset(offset);
            offset += 1;
            let content = contents.next().ok_or_else(|| protocol_error(run, "has fewer items than its count"))?;
            let content = content.map_err(|problem| protocol_error(run, &format!("has invalid items: {problem}")))?;
            // The previous result has been sent: release its memory before the next item.
            clear_buffer(buffer);
            let output = match &mut function {
                None => Err(Failure::unknown_function(&run.function)),
                Some(function) => {
                    let input = chunk.input(content, common.as_deref(), max_result_bytes);
                    catch_panic(|| function.call(input, &chunk.items, buffer))
                }
            };
            is_begun = match output {
                Ok(Output::InBuffer) => channel.finish(waiter, Ok(buffer)),
                Ok(Output::Owned(bytes)) => channel.finish(waiter, Ok(&bytes)),
                Err(failure) => channel.finish(waiter, Err(failure)),
            }?;
        }
        Ok(())
    }
}

/// Clears a buffer, and frees its memory if it is large.
fn clear_buffer(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(MAX_KEPT_BUFFER_BYTES);
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Worker").field("functions", &self.functions).finish_non_exhaustive()
    }
}

struct EndOnDrop<'a>(&'a Channel);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
