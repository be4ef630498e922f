//! Writes to the socket, and batches finished results in the journal.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use procpool_ipc::page::PageWriter;
use procpool_ipc::proto::Results;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_ipc::{encode_results_header, encode_worker_frame};
use procpool_items::ItemKind;
use prost::encoding::encode_varint;
use rustix::net::{SendAncillaryBuffer, SendFlags};

use crate::failure::Failure;

/// The longest time for which a result is held for a batch, in nanoseconds.
pub(crate) const MAX_PENDING_NS: u64 = 1_000_000;
/// An upper bound on a Results frame without its items and failures.
const RESULTS_OVERHEAD: usize = 64;
/// An upper bound on a failure, with its type, without its message, traceback and data.
const FAILURE_OVERHEAD: usize = 400;
/// The tag of a record of a list.
const RECORD_TAG: u8 = 0x0a;

/// The sending half of the connection, and the progress page.
pub(crate) struct Sender {
    socket: Arc<OwnedFd>,
    max_frame_bytes: usize,
    page: Option<PageWriter>,
    pending: Option<Pending>,
}

/// Results in the journal.
struct Pending {
    chunk: u64,
    first: u32,
    count: u32,
    /// When the first of them finished.
    since_ns: u64,
    busy_ns: u64,
}

/// A finished item, and how long it ran.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finished {
    pub(crate) chunk: u64,
    pub(crate) offset: u32,
    pub(crate) sequence: u64,
    pub(crate) kind: ItemKind,
    pub(crate) now_ns: u64,
    pub(crate) busy_ns: u64,
}

impl Sender {
    pub(crate) fn new(socket: OwnedFd, max_frame_bytes: u32, page: Option<PageWriter>) -> Self {
        Self { socket: Arc::new(socket), max_frame_bytes: max_frame_bytes as usize, page, pending: None }
    }

    pub(crate) fn socket(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.socket)
    }

    /// Returns the length of the longest result that fits a frame.
    pub(crate) fn max_result_bytes(&self) -> usize {
        let (_, header_len) = record_header(self.max_frame_bytes);
        self.max_frame_bytes.saturating_sub(RESULTS_OVERHEAD + header_len)
    }

    pub(crate) fn page(&mut self) -> Option<&mut PageWriter> {
        self.page.as_mut()
    }

    /// Returns when the oldest unsent result finished.
    pub(crate) fn pending_since_ns(&self) -> Option<u64> {
        self.pending.as_ref().map(|pending| pending.since_ns)
    }

    /// Sends a frame that has no user data.
    pub(crate) fn send(&mut self, frame: WorkerFrame) -> rustix::io::Result<()> {
        let bytes = encode_worker_frame(frame);
        write_all(&self.socket, &mut [IoSlice::new(&bytes)])
    }

    /// Returns whether a result of this length fits the journal as it is.
    pub(crate) fn can_journal(&self, content_len: usize) -> bool {
        let (_, header_len) = record_header(content_len);
        let Some(page) = &self.page else { return false };
        let length = page.journal().len() + header_len + content_len;
        length + RESULTS_OVERHEAD <= self.max_frame_bytes && header_len + content_len <= page.num_bytes_free()
    }

    /// Adds a result to the journal, or sends it at once if it does not fit.
    pub(crate) fn push_result(&mut self, finished: Finished, content: &[u8]) -> rustix::io::Result<()> {
        let (header, header_len) = record_header(content.len());
        let header = &header[..header_len];
        let length = header.len() + content.len();
        if length + RESULTS_OVERHEAD > self.max_frame_bytes {
            let failure = Failure::not_encodable(format!(
                "the result has {} bytes, and a frame holds {}",
                content.len(),
                self.max_frame_bytes - RESULTS_OVERHEAD
            ));
            return self.push_failure(finished, failure);
        }
        if self.append(finished, header, content) {
            return Ok(());
        }
        self.flush()?;
        if self.append(finished, header, content) {
            return Ok(());
        }
        let results = Results {
            chunk: finished.chunk,
            first: finished.offset,
            count: 1,
            busy_ns: finished.busy_ns,
            ..Results::default()
        };
        let frame = encode_results_header(&results, length);
        write_all(&self.socket, &mut [IoSlice::new(&frame), IoSlice::new(header), IoSlice::new(content)])
    }

    /// Sends a failure, after all results before it.
    pub(crate) fn push_failure(&mut self, finished: Finished, failure: Failure) -> rustix::io::Result<()> {
        self.flush()?;
        let failure = failure.into_proto(finished.offset, self.max_frame_bytes - RESULTS_OVERHEAD - FAILURE_OVERHEAD);
        self.send(WorkerFrame::Results(Results {
            chunk: finished.chunk,
            first: finished.offset,
            count: 1,
            failures: vec![failure],
            busy_ns: finished.busy_ns,
            items: Bytes::from_static(finished.kind.placeholder()),
        }))
    }

    /// Sends the results in the journal.
    pub(crate) fn flush(&mut self) -> rustix::io::Result<()> {
        let (Some(pending), Some(page)) = (self.pending.take(), &mut self.page) else { return Ok(()) };
        let results = Results {
            chunk: pending.chunk,
            first: pending.first,
            count: pending.count,
            busy_ns: pending.busy_ns,
            ..Results::default()
        };
        let header = encode_results_header(&results, page.journal().len());
        write_all(&self.socket, &mut [IoSlice::new(&header), IoSlice::new(page.journal())])?;
        page.clear();
        Ok(())
    }

    /// Appends a result to the journal; returns `false` if there is no journal or it does not fit.
    fn append(&mut self, finished: Finished, header: &[u8], content: &[u8]) -> bool {
        let Some(page) = &mut self.page else { return false };
        let length = header.len() + content.len();
        let fits_frame = page.journal().len() + length + RESULTS_OVERHEAD <= self.max_frame_bytes;
        if !fits_frame || !page.append(finished.sequence, header, content) {
            return false;
        }
        let pending = self.pending.get_or_insert(Pending {
            chunk: finished.chunk,
            first: finished.offset,
            count: 0,
            since_ns: finished.now_ns,
            busy_ns: 0,
        });
        pending.count += 1;
        pending.busy_ns += finished.busy_ns;
        true
    }
}

/// Returns the tag and the length of a record, and the number of these bytes.
fn record_header(content_len: usize) -> ([u8; 11], usize) {
    let mut header = [RECORD_TAG; 11];
    let mut rest = &mut header[1..];
    encode_varint(content_len as u64, &mut rest);
    let length = 11 - rest.len();
    (header, length)
}

/// Writes all the parts, one after the other.
fn write_all(socket: impl AsFd, mut parts: &mut [IoSlice<'_>]) -> rustix::io::Result<()> {
    // With empty parts at the front, a write of 0 bytes would look like an error.
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        let mut no_control = SendAncillaryBuffer::default();
        // NOSIGNAL: a closed connection is an error here, not a SIGPIPE.
        match rustix::net::sendmsg(&socket, parts, &mut no_control, SendFlags::NOSIGNAL) {
            Ok(count) => IoSlice::advance_slices(&mut parts, count),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
