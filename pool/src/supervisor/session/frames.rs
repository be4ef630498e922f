//! What frames say: commands in their words to the worker, and the worker's words, checked, to the driver.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use procpool_ipc::page::monotonic_ns;
use procpool_ipc::proto;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_items::ItemKind;
use procpool_scheduler::ChunkId;

use super::{Session, Stage, check};
use crate::call::{CallStyle, CommonArgument};
use crate::error::{CallPart, ItemFailure};
use crate::supervisor::interface::{ChunkCommon, ChunkResults, ChunkRun, WorkerEventKind};
use crate::supervisor::process_group::Process;

/// More than a Run frame has beside its items and its texts.
const MAX_RUN_NUMBERS_BYTES: usize = 128;

impl<P: Process> Session<P> {
    pub(super) fn send(&mut self, frame: ServerFrame) {
        self.channel.send([procpool_ipc::encode_server_frame(frame)]);
    }

    /// Hands a chunk to the worker. One that no frame can hold fails, and the worker never sees it.
    pub(super) fn send_run(&mut self, run: ChunkRun) {
        if run.common.is_some() && !self.takes_common {
            // Others of this pool do, or the call would have been refused.
            let message = "the SDK of this worker is too old for a common argument".to_owned();
            return self.refuse(&run, CallPart::Common, message);
        }
        if let Some(ChunkCommon { common, argument: Some(argument) }) = &run.common {
            self.set_common(*common, argument);
        }
        let items_len = run.parts.iter().map(Bytes::len).sum::<usize>();
        let texts: [&str; 4] = [&run.function, &run.content_type, &run.trace.traceparent, &run.trace.tracestate];
        let texts_len = texts.iter().map(|text| text.len()).sum::<usize>();
        if items_len + texts_len + MAX_RUN_NUMBERS_BYTES > self.max_frame_bytes as usize {
            let message = format!("{items_len} bytes are more than a worker takes, {} in all", self.max_frame_bytes);
            return self.refuse(&run, CallPart::Item, message);
        }
        let was_idle = self.chunks.front().is_none();
        self.memory.chunk_given(was_idle);
        if let Some(watch) = &self.watch {
            watch.want();
        }
        let first_sequence = self.chunks.add(&run, monotonic_ns());
        self.items.chunk_given(self.now(), run.time_limit);
        self.ping.chunk_given(was_idle, self.chunks.front().and_then(|front| front.time_limit));
        let frame = proto::Run {
            chunk: run.chunk.0,
            kind: proto_kind(run.kind).into(),
            style: match run.style {
                CallStyle::Map => proto::CallStyle::Map,
                CallStyle::Star => proto::CallStyle::Star,
                CallStyle::Apply => proto::CallStyle::Apply,
            }
            .into(),
            first_index: run.first_index,
            count: run.count,
            first_sequence,
            attempt: run.attempt,
            stamp_start: run.time_limit.is_some(),
            common: run.common.as_ref().map_or(0, |common| common.common),
            ..proto::Run::default()
        };
        let header = procpool_ipc::encode_run_header(&frame, texts, items_len);
        self.channel.send(std::iter::once(header).chain(run.parts));
    }

    /// Hands over an argument that chunks will name. The handle has seen to it that it fits a frame.
    fn set_common(&mut self, common: u64, argument: &CommonArgument) {
        let CommonArgument { kind, content_type, bytes } = argument;
        self.ping.common_given(bytes.len());
        let frame = proto::SetCommon {
            common,
            kind: proto_kind(*kind).into(),
            content_type: content_type.clone(),
            value: Bytes::new(),
        };
        let header = procpool_ipc::encode_set_common_header(&frame, bytes.len());
        self.channel.send([header, bytes.clone()]);
    }

    pub(super) fn drop_commons(&mut self, commons: &[u64]) {
        if self.takes_common {
            for &common in commons {
                self.send(ServerFrame::DropCommon(proto::DropCommon { common }));
            }
        }
    }

    /// Fails a chunk that the worker never sees.
    fn refuse(&mut self, run: &ChunkRun, part: CallPart, message: String) {
        let failure = ItemFailure::InvalidItem { part, message };
        let results = failed_results(run.chunk, run.kind, 0..run.count, &failure);
        self.emit(WorkerEventKind::Results(results));
    }

    /// Handles the frames that have been read, as long as the driver has room for what they say.
    pub(super) fn handle_frames(&mut self) {
        while self.pending.is_empty() && self.violation.is_none() {
            match self.channel.next_frame() {
                Ok(Some(frame)) => match self.handle_frame(frame) {
                    Ok(Some(kind)) => self.emit(kind),
                    Ok(None) => {}
                    Err(violation) => self.break_off(violation),
                },
                Ok(None) => return,
                Err(violation) => self.break_off(violation),
            }
        }
    }

    /// Returns what a frame tells the driver, or how it breaks the protocol.
    fn handle_frame(&mut self, frame: WorkerFrame) -> Result<Option<WorkerEventKind>, String> {
        match (self.stage, frame) {
            (Stage::Connected, WorkerFrame::Hello(hello)) => self.take_hello(hello).map(Some),
            (Stage::Connected, _) => Err("did not begin with Hello".to_owned()),
            (_, WorkerFrame::Hello(_)) => Err("sent Hello twice".to_owned()),
            (Stage::Loaded, WorkerFrame::Ready(_)) => {
                self.stage = Stage::Ready;
                Ok(Some(WorkerEventKind::Ready))
            }
            (Stage::Loaded, _) => Err("did not send Ready after Hello".to_owned()),
            (Stage::Ready, WorkerFrame::Ready(_)) => Err("sent Ready twice".to_owned()),
            (Stage::Ready, WorkerFrame::Started(_)) if self.uses_page => {
                Err("sent Started, though it uses the progress page".to_owned())
            }
            (Stage::Ready, WorkerFrame::Started(started)) => self.chunks.take_started(&started).map(|()| None),
            (Stage::Ready, WorkerFrame::Results(results)) => {
                self.chunks.take_results(results).map(|results| Some(WorkerEventKind::Results(results)))
            }
            (Stage::Ready, WorkerFrame::Recalled(recalled)) => {
                let position = self.chunks.take_recalled(&recalled)?;
                Ok(position.map(|position| WorkerEventKind::Recalled {
                    chunk: position.chunk,
                    first_not_begun: position.offset,
                }))
            }
            (Stage::Ready, WorkerFrame::Pong(_)) if self.ping.take_pong() => Ok(None),
            (Stage::Ready, WorkerFrame::Pong(_)) => Err("sent Pong without a Ping".to_owned()),
        }
    }

    fn take_hello(&mut self, hello: proto::Hello) -> Result<WorkerEventKind, String> {
        if hello.protocol_version != procpool_ipc::PROTOCOL_VERSION {
            return Err(format!(
                "speaks version {} of the worker protocol, and this server {}; install matching versions",
                hello.protocol_version,
                procpool_ipc::PROTOCOL_VERSION
            ));
        }
        if hello.uses_progress_page && self.page.is_none() {
            return Err("claims to use a progress page, and has none".to_owned());
        }
        let functions = check::functions(hello.functions, hello.takes_common, self.allow_pickle)?;
        self.takes_common = hello.takes_common;
        self.uses_page = hello.uses_progress_page;
        self.stage = Stage::Loaded;
        self.memory.worker_loaded();
        let pid = if hello.pid == 0 { self.process.pid() } else { hello.pid };
        self.process.announce(pid);
        if let Some(watch) = &self.watch {
            watch.set_runner(pid);
        }
        self.dumper.announce(self.process.pid(), pid, hello.dump_signal, hello.dump_end)?;
        tracing::debug!(worker = self.worker.generation, slot = self.worker.slot.0, pid, sdk = ?hello.sdk, "worker said hello");
        Ok(WorkerEventKind::Hello { pid, sdk: hello.sdk, functions })
    }
}

fn proto_kind(kind: ItemKind) -> proto::ItemKind {
    match kind {
        ItemKind::Values => proto::ItemKind::Values,
        ItemKind::Blobs => proto::ItemKind::Blobs,
    }
}

/// Makes results of items that all failed in the same way.
pub(super) fn failed_results(
    chunk: ChunkId,
    kind: ItemKind,
    offsets: Range<u32>,
    failure: &ItemFailure,
) -> ChunkResults {
    let items = kind.placeholder().repeat(offsets.len());
    ChunkResults {
        chunk,
        first: offsets.start,
        count: offsets.end - offsets.start,
        failures: offsets.map(|offset| (offset, failure.clone())).collect(),
        busy: Duration::ZERO,
        items: items.into(),
    }
}
