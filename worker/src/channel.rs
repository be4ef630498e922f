//! The connection state that the threads of a worker share: which chunk runs, which items have begun, what was
//! recalled.
//!
//! One mutex protects all of it. The main thread locks it once between two items; the I/O thread and the reader of a
//! frame lock it briefly. So which items have begun is always known exactly, and frames are sent in the order of the
//! events.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use procpool_ipc::page::monotonic_ns;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_ipc::{FrameDecoder, decode_server_frame, receive};
use rustix::event::EventfdFlags;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::error::WorkerError;
use crate::failure::Failure;
use crate::results::{MAX_PENDING_NS, Sender};
use crate::state::{CancelHook, Next, Phase, QueuedRun, State};
use crate::wait::{TICK, Waiter};

/// Called when the server is gone.
pub(crate) type DisconnectHook = Box<dyn Fn() + Send + Sync>;

/// The state that the threads share.
pub(crate) struct Channel {
    pub(crate) socket: Arc<OwnedFd>,
    /// Its owner reads from the socket. Lock it before `state`, never after.
    pub(crate) reader: Mutex<FrameDecoder>,
    /// An eventfd that wakes the I/O thread.
    pub(crate) wakeup: OwnedFd,
    disconnect_hook: Option<DisconnectHook>,
    state: Mutex<State>,
}

/// The state that the I/O thread needs.
pub(crate) struct Outlook {
    pub(crate) phase: Phase,
    pub(crate) is_running: bool,
    pub(crate) num_periods: u64,
    /// When the oldest unsent result finished.
    pub(crate) pending_since_ns: Option<u64>,
}

/// The outcome of a receive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Some bytes arrived, and the complete frames were handled.
    Frames,
    /// The server has closed the connection.
    End,
}

impl Channel {
    pub(crate) fn new(
        sender: Sender,
        decoder: FrameDecoder,
        cancel_hook: Option<CancelHook>,
        disconnect_hook: Option<DisconnectHook>,
    ) -> Result<Self, WorkerError> {
        Ok(Self {
            socket: sender.socket(),
            reader: Mutex::new(decoder),
            wakeup: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            disconnect_hook,
            state: Mutex::new(State::new(sender, cancel_hook)),
        })
    }

    /// Has waits for work end after [`TICK`] with nothing.
    pub(crate) fn tick(&self) -> Result<(), WorkerError> {
        Ok(set_socket_timeout(&self.socket, Timeout::Recv, Some(TICK))?)
    }

    /// Sends a frame that has no user data.
    pub(crate) fn send(&self, frame: WorkerFrame) -> Result<(), WorkerError> {
        Ok(self.lock().sender.send(frame)?)
    }

    /// Ends the phase in which the worker finds its functions.
    pub(crate) fn serve(&self) {
        self.lock().phase = Phase::Serving;
        self.wake();
    }

    /// Marks the main thread as busy.
    pub(crate) fn enter_work(&self) {
        let mut state = self.lock();
        state.enter_work();
        self.wake_io_thread(&mut state);
    }

    /// Marks the main thread as idle.
    pub(crate) fn leave_work(&self) {
        self.lock().is_running = false;
    }

    /// Ends the I/O thread.
    pub(crate) fn end(&self) {
        self.lock().phase = Phase::Ended;
        self.wake();
    }

    /// Calls the hook for a server that is gone.
    pub(crate) fn disconnected(&self) {
        self.disconnect_hook.iter().for_each(|hook| hook());
    }

    /// Waits for the next chunk and returns it; `None` after Shutdown or the end of the connection.
    pub(crate) fn next_chunk(&self, waiter: &Waiter) -> Result<Option<QueuedRun>, WorkerError> {
        loop {
            match self.locked(waiter, |state| self.poll_chunk(state))?? {
                Next::Chunk(queued) => return Ok(Some(*queued)),
                Next::End => return Ok(None),
                Next::Nothing => {}
            }
            if self.wait_for_frames(waiter)? == Received::End {
                self.disconnected();
                return Ok(None);
            }
        }
    }

    fn poll_chunk(&self, state: &mut State) -> Result<Next, WorkerError> {
        let next = state.poll_chunk()?;
        if matches!(next, Next::Chunk(_)) {
            self.wake_io_thread(state);
        }
        Ok(next)
    }

    /// Waits until frames have arrived; the I/O thread may have read them.
    fn wait_for_frames(&self, waiter: &Waiter) -> Result<Received, WorkerError> {
        let mut decoder = match self.reader.try_lock() {
            Ok(decoder) => decoder,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.wake();
                waiter.wait(|| drop(self.reader.lock()))?;
                // The frames that the I/O thread has read meanwhile come first.
                return Ok(Received::Frames);
            }
        };
        // Some may have arrived with the Welcome.
        self.handle_frames(&mut decoder)?;
        if self.locked(waiter, |state| state.has_work_or_ended())? {
            Ok(Received::Frames)
        } else {
            self.receive(&mut decoder, waiter)
        }
    }

    /// Begins the first item of the chunk; returns `false` if none may begin.
    pub(crate) fn begin(&self, waiter: &Waiter) -> Result<bool, WorkerError> {
        self.locked(waiter, |state| state.begin_next(monotonic_ns()))?
    }

    /// Stores the result of the item that ran and begins the next one; returns `false` if the chunk ends here.
    pub(crate) fn finish(&self, waiter: &Waiter, result: Result<&[u8], Failure>) -> Result<bool, WorkerError> {
        let now_ns = monotonic_ns();
        let finish = |state: &mut State, result| -> Result<bool, WorkerError> {
            let step = state.finish(result, now_ns)?;
            if step.has_new_pending {
                self.wake_io_thread(state);
            }
            Ok(step.is_begun)
        };
        if !waiter.has_hook() {
            return finish(&mut self.lock(), result);
        }
        if let Some(mut state) = self.try_lock()
            && !state.finish_sends(&result, now_ns)
        {
            return finish(&mut state, result);
        }
        waiter.wait(|| finish(&mut self.lock(), result))?
    }

    /// Sends results that have waited long enough.
    pub(crate) fn flush_if_due(&self) -> Result<(), WorkerError> {
        let mut state = self.lock();
        if state.sender.pending_since_ns().is_some_and(|since| monotonic_ns().saturating_sub(since) >= MAX_PENDING_NS) {
            state.sender.flush()?;
        }
        Ok(())
    }

    /// Returns the state that the I/O thread needs, and marks it as awake.
    pub(crate) fn outlook(&self) -> Outlook {
        let mut state = self.lock();
        state.io_thread_sleeps = false;
        Outlook {
            phase: state.phase,
            is_running: state.is_running,
            num_periods: state.num_periods,
            pending_since_ns: state.sender.pending_since_ns(),
        }
    }

    /// Marks the I/O thread as asleep until it is woken. Returns `false`, and it must not sleep, if the state has
    /// changed.
    pub(crate) fn let_io_thread_sleep(&self, outlook: &Outlook) -> bool {
        let mut state = self.lock();
        let unchanged = state.is_running == outlook.is_running
            && state.num_periods == outlook.num_periods
            && state.sender.pending_since_ns().is_none();
        state.io_thread_sleeps = unchanged;
        unchanged
    }

    /// Stores why the connection failed, for the main thread. Returns whether that is busy.
    pub(crate) fn fail(&self, failure: WorkerError) -> bool {
        let mut state = self.lock();
        state.failure.get_or_insert(failure);
        state.is_running || state.phase == Phase::Loading
    }

    /// Receives once, blocking until data arrives, and handles the complete frames. A wait that ends for a signal, or
    /// because it has taken long, has received none.
    pub(crate) fn receive(&self, decoder: &mut FrameDecoder, waiter: &Waiter) -> Result<Received, WorkerError> {
        use std::io::ErrorKind;

        let count = match waiter.wait(|| receive(&self.socket, decoder))? {
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                return Ok(Received::Frames);
            }
            // The server died with our frames unread.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => return Err(error.into()),
        };
        if count == 0 {
            return Ok(Received::End);
        }
        self.handle_frames(decoder)?;
        Ok(Received::Frames)
    }

    /// Handles the complete frames.
    pub(crate) fn handle_frames(&self, decoder: &mut FrameDecoder) -> Result<(), WorkerError> {
        while let Some(frame) = decoder.next_frame()? {
            let frame = decode_server_frame(frame)?;
            let dropped = self.lock().handle(frame)?;
            // Outside of the lock: it may be large, and the main thread must not wait for the drop.
            drop(dropped);
        }
        Ok(())
    }

    fn wake_io_thread(&self, state: &mut State) {
        if state.io_thread_sleeps {
            state.io_thread_sleeps = false;
            self.wake();
        }
    }

    fn wake(&self) {
        // It can only fail when 2^64 wake-ups are pending; then one more changes nothing.
        let _ = rustix::io::write(&self.wakeup, &1_u64.to_ne_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // User code never runs under the lock, so a panic under it is a bug of this crate; the state is still
        // consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Does something under the lock on the main thread. The I/O thread may have it for long, while it sends.
    fn locked<T: Send>(&self, waiter: &Waiter, action: impl FnOnce(&mut State) -> T + Send) -> Result<T, WorkerError> {
        match self.try_lock() {
            Some(mut state) => Ok(action(&mut state)),
            None => waiter.wait(|| action(&mut self.lock())),
        }
    }
}
