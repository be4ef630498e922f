//! A worker without the SDK, which can therefore violate the protocol.

use std::fs::OpenOptions;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use procpool_ipc::page::PageWriter;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_ipc::proto::{Function, Hello, Pong, Ready, Results, Run, Welcome};
use procpool_ipc::{Peer, take_inherited_socket};

use crate::support::start_watchdog;

/// The variable with the path of a file that the first worker creates; workers that find it behave correctly.
pub const ONCE: &str = "PROCPOOL_TEST_ONCE";

/// The worker's end of the connection. Its one function is `echo`.
#[derive(Debug)]
pub struct HandWorker {
    peer: Peer<WorkerFrame>,
    /// The server's Welcome.
    pub welcome: Welcome,
    /// The progress page, if one was sent.
    pub page: Option<PageWriter>,
}

impl HandWorker {
    /// Starts the watchdog, connects by `PROCPOOL_FD` and receives Welcome.
    ///
    /// # Errors
    ///
    /// If there is no such connection, or the first frame is another one.
    pub fn connect() -> io::Result<Self> {
        start_watchdog();
        let number = std::env::var_os("PROCPOOL_FD").ok_or_else(|| io::Error::other("PROCPOOL_FD is not set"))?;
        let number = number.to_string_lossy().parse().map_err(io::Error::other)?;
        let (peer, welcome, descriptors) = Peer::connect(take_inherited_socket(number)?.into())?;
        // The pipe for dumps may be sent, too.
        let page_file = descriptors.into_iter().next().filter(|_| welcome.journal_bytes > 0);
        let page = page_file.map(|file| PageWriter::map(file, welcome.journal_bytes)).transpose()?;
        Ok(Self { peer, welcome, page })
    }

    /// Connects and sends Hello and Ready, as a worker that uses the progress page if there is one.
    ///
    /// # Errors
    ///
    /// As [`HandWorker::connect`], or if the server is gone.
    ///
    /// With [`ONCE`] in the environment, only the first worker returns and so misbehaves: the others behave correctly
    /// until their process exits.
    pub fn start() -> io::Result<Self> {
        let mut worker = Self::connect()?;
        let uses_progress_page = worker.page.is_some();
        worker.say_hello(uses_progress_page)?;
        worker.send(WorkerFrame::Ready(Ready {}))?;
        let token = std::env::var_os(ONCE);
        if token.is_some_and(|token| OpenOptions::new().write(true).create_new(true).open(token).is_err()) {
            worker.behave()?;
            exit_well()
        }
        Ok(worker)
    }

    /// Echoes chunks until Shutdown.
    fn behave(&mut self) -> io::Result<()> {
        while let Some(run) = self.next_run()? {
            for offset in 0..run.count {
                self.begin(&run, offset);
            }
            self.send(WorkerFrame::Results(Self::echo(&run)))?;
        }
        Ok(())
    }

    /// Sends Hello.
    ///
    /// # Errors
    ///
    /// If the server is gone.
    pub fn say_hello(&mut self, uses_progress_page: bool) -> io::Result<()> {
        self.send(WorkerFrame::Hello(Hello {
            protocol_version: 1,
            sdk: "by hand".to_owned(),
            pid: std::process::id(),
            functions: vec![Function { name: "echo".to_owned(), ..Function::default() }],
            uses_progress_page,
            takes_common: false,
            ..Hello::default()
        }))
    }

    /// Sends a frame.
    ///
    /// # Errors
    ///
    /// If the server is gone.
    pub fn send(&mut self, frame: WorkerFrame) -> io::Result<()> {
        self.peer.send(frame)
    }

    /// Sends raw bytes, which may be an invalid frame.
    ///
    /// # Errors
    ///
    /// If the server is gone.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.peer.send_bytes(bytes.to_vec())
    }

    /// Answers Pings and returns the next other frame; `None` when the server is gone.
    ///
    /// # Errors
    ///
    /// If the connection fails, or an invalid frame arrives.
    pub fn next_frame(&mut self) -> io::Result<Option<ServerFrame>> {
        loop {
            match self.peer.next_frame()? {
                Some(ServerFrame::Ping(ping)) => self.send(WorkerFrame::Pong(Pong { nonce: ping.nonce }))?,
                frame => return Ok(frame),
            }
        }
    }

    /// Like [`HandWorker::next_frame`], with a time limit; `None` also if no frame arrives in time.
    ///
    /// # Errors
    ///
    /// As [`HandWorker::next_frame`], or if the time is 0.
    pub fn next_frame_within(&mut self, timeout: Duration) -> io::Result<Option<ServerFrame>> {
        self.peer.socket().set_read_timeout(Some(timeout))?;
        let frame = self.next_frame();
        self.peer.socket().set_read_timeout(None)?;
        match frame {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            frame => frame,
        }
    }

    /// Waits for a chunk; `None` after Shutdown or the end of the connection.
    ///
    /// # Errors
    ///
    /// As [`HandWorker::next_frame`].
    pub fn next_run(&mut self) -> io::Result<Option<Run>> {
        loop {
            match self.next_frame()? {
                Some(ServerFrame::Run(run)) => return Ok(Some(run)),
                Some(ServerFrame::Shutdown(_)) | None => return Ok(None),
                Some(_) => {}
            }
        }
    }

    /// Stores the begin of an item in the progress page.
    pub fn begin(&mut self, run: &Run, offset: u32) {
        if let Some(page) = &mut self.page {
            page.stamp_start(procpool_ipc::page::monotonic_ns());
            page.begin(run.first_sequence + u64::from(offset));
        }
    }

    /// Waits until the server is gone.
    ///
    /// # Errors
    ///
    /// As [`HandWorker::next_frame`].
    pub fn wait_for_end(&mut self) -> io::Result<()> {
        while self.next_frame()?.is_some() {}
        Ok(())
    }

    /// Closes the connection.
    pub fn close(self) {
        drop(self);
    }

    /// Returns the echo results of a whole chunk.
    pub fn echo(run: &Run) -> Results {
        Results { chunk: run.chunk, count: run.count, busy_ns: 1000, items: run.items.clone(), ..Results::default() }
    }

    /// Returns the echo result of one item of a chunk.
    pub fn echo_one(run: &Run, offset: u32) -> Results {
        let record_len = |list: &[u8]| {
            let total = procpool_items::Records::new(list).next().and_then(Result::ok).map_or(0, <[u8]>::len);
            list.len().min(total + 1 + varint_len(total))
        };
        let mut rest: Bytes = run.items.clone();
        for _ in 0..offset {
            let length = record_len(&rest);
            drop(rest.split_to(length));
        }
        let length = record_len(&rest);
        let items = rest.split_to(length);
        Results { chunk: run.chunk, first: offset, count: 1, busy_ns: 1000, items, ..Results::default() }
    }
}

#[expect(clippy::exit, reason = "what follows in the program is its vice")]
fn exit_well() -> ! {
    std::process::exit(0)
}

/// Returns the encoded size of a length.
fn varint_len(mut value: usize) -> usize {
    let mut length = 1;
    while value >= 0x80 {
        value >>= 7;
        length += 1;
    }
    length
}
