//! Everything sent to and by the worker: every frame is validated against the protocol as it arrives.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_ipc::proto::{FailureKind, Hello, ItemFailure, ItemKind, Recalled, Results, Run, Started};
use procpool_items::{Records, value};
use serde_json::Value;

use crate::report::{Fault, bail};
use crate::rules;

/// The stage of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Connected,
    SaidHello,
    Ready,
}

/// A chunk that was sent to the worker, and its results.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) id: u64,
    kind: ItemKind,
    count: u32,
    first_sequence: u64,
    /// How many of its items have results: all, or fewer after a recall.
    end: u32,
    pub(crate) contents: Vec<Bytes>,
    pub(crate) failures: BTreeMap<u32, ItemFailure>,
    pub(crate) num_frames: usize,
    num_started: u32,
    was_recalled: bool,
    /// `first_not_begun` of the answer to the recall.
    pub(crate) given_back_from: Option<u32>,
}

impl Chunk {
    pub(crate) fn num_received(&self) -> u32 {
        u32::try_from(self.contents.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.num_received() == self.end
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Returns the offset of the item with this sequence number.
    pub(crate) fn offset_of(&self, sequence: u64) -> Option<u32> {
        let offset = u32::try_from(sequence.checked_sub(self.first_sequence)?).ok()?;
        (offset < self.count).then_some(offset)
    }

    /// Returns the results as JSON values.
    pub(crate) fn values(&self) -> Vec<Value> {
        // They were decoded when they arrived.
        self.contents.iter().map(|content| value::from_bytes(content).unwrap_or_default()).collect()
    }

    /// Returns how many of its items have begun, given the number in the page, if there is a page.
    pub(crate) fn num_begun(&self, last_begun: Option<u64>) -> u32 {
        match last_begun {
            Some(sequence) => self.offset_of(sequence).map_or(0, |offset| offset + 1),
            None => self.num_started,
        }
    }

    fn allows_gap(&self) -> bool {
        self.is_done() || (self.was_recalled && self.given_back_from.is_none())
    }
}

/// Describes why an item failed.
pub(crate) fn describe(failure: &ItemFailure) -> String {
    format!("{} {} {}", failure.kind().as_str_name(), failure.r#type, failure.message)
}

/// Everything sent over one connection.
#[derive(Debug)]
pub(crate) struct Transcript {
    pub(crate) stage: Stage,
    pub(crate) hello: Hello,
    pub(crate) chunks: Vec<Chunk>,
    has_page: bool,
    next_sequence: u64,
    pings: HashSet<u64>,
    last_begun: u64,
}

impl Transcript {
    pub(crate) fn new(has_page: bool) -> Self {
        Self {
            stage: Stage::Connected,
            hello: Hello::default(),
            chunks: Vec::new(),
            has_page,
            next_sequence: 1,
            pings: HashSet::new(),
            last_begun: 0,
        }
    }

    /// Assigns a chunk its id and sequence numbers, and records it.
    pub(crate) fn add(&mut self, run: &mut Run) {
        run.chunk = self.chunks.len() as u64 + 1;
        run.first_sequence = self.next_sequence;
        self.next_sequence += u64::from(run.count);
        self.chunks.push(Chunk {
            id: run.chunk,
            kind: run.kind(),
            count: run.count,
            first_sequence: run.first_sequence,
            end: run.count,
            contents: Vec::new(),
            failures: BTreeMap::new(),
            num_frames: 0,
            num_started: 0,
            was_recalled: false,
            given_back_from: None,
        });
    }

    pub(crate) fn note_recall(&mut self, id: u64) {
        if let Some(chunk) = self.chunk_mut(id) {
            chunk.was_recalled = true;
        }
    }

    pub(crate) fn note_ping(&mut self, nonce: u64) {
        self.pings.insert(nonce);
    }

    pub(crate) fn is_answered(&self, nonce: u64) -> bool {
        !self.pings.contains(&nonce)
    }

    /// Returns a chunk by its id, which `add` assigned.
    pub(crate) fn chunk(&self, id: u64) -> &Chunk {
        self.chunks.iter().find(|chunk| chunk.id == id).expect("the chunk was added")
    }

    fn chunk_mut(&mut self, id: u64) -> Option<&mut Chunk> {
        self.chunks.iter_mut().find(|chunk| chunk.id == id)
    }

    /// Returns what the worker still has to send, for a fault.
    pub(crate) fn expectation(&self) -> String {
        match self.stage {
            Stage::Connected => "Hello".to_owned(),
            Stage::SaidHello => "Ready".to_owned(),
            Stage::Ready => match self.chunks.iter().find(|chunk| !chunk.is_done()) {
                Some(chunk) => format!("{} of {} results", chunk.end - chunk.num_received(), chunk.end),
                None if self.pings.is_empty() => "nothing".to_owned(),
                None => "Pong".to_owned(),
            },
        }
    }

    /// Checks the begun word of the progress page.
    pub(crate) fn take_begun(&mut self, begun: u64) -> Result<(), Fault> {
        if !self.hello.uses_progress_page {
            return Ok(());
        }
        if begun < self.last_begun {
            bail!(rules::BEGUN, "stored sequence number {begun} in the page after {}", self.last_begun);
        }
        if begun >= self.next_sequence {
            bail!(rules::BEGUN, "stored sequence number {begun}, and the last item has {}", self.next_sequence - 1);
        }
        self.last_begun = begun;
        for chunk in &self.chunks {
            if let (Some(offset), Some(end)) = (chunk.offset_of(begun), chunk.given_back_from)
                && offset >= end
            {
                bail!(
                    rules::RECALLED,
                    "began item {offset} of chunk {}, which it had given back from {end} on",
                    chunk.id
                );
            }
        }
        Ok(())
    }

    /// Validates a frame and records it.
    pub(crate) fn take(&mut self, frame: WorkerFrame) -> Result<(), Fault> {
        match (self.stage, frame) {
            (Stage::Connected, WorkerFrame::Hello(hello)) => self.take_hello(hello),
            (Stage::Connected, _) => Err(Fault::new(rules::ORDER, "did not begin with Hello")),
            (_, WorkerFrame::Hello(_)) => Err(Fault::new(rules::ORDER, "sent Hello twice")),
            (Stage::SaidHello, WorkerFrame::Ready(_)) => {
                self.stage = Stage::Ready;
                Ok(())
            }
            (_, WorkerFrame::Pong(pong)) => {
                if self.pings.remove(&pong.nonce) {
                    return Ok(());
                }
                Err(Fault::new(rules::PING, format!("sent Pong {}, which nobody asked for", pong.nonce)))
            }
            (Stage::SaidHello, _) => Err(Fault::new(rules::ORDER, "did not send Ready after Hello")),
            (Stage::Ready, WorkerFrame::Ready(_)) => Err(Fault::new(rules::ORDER, "sent Ready twice")),
            (Stage::Ready, WorkerFrame::Started(started)) => self.take_started(&started),
            (Stage::Ready, WorkerFrame::Results(results)) => self.take_results(&results),
            (Stage::Ready, WorkerFrame::Recalled(recalled)) => self.take_recalled(&recalled),
        }
    }

    fn take_hello(&mut self, hello: Hello) -> Result<(), Fault> {
        if hello.protocol_version != procpool_ipc::PROTOCOL_VERSION {
            bail!(rules::VERSION, "speaks version {}", hello.protocol_version);
        }
        if hello.uses_progress_page && !self.has_page {
            bail!(rules::NO_PAGE, "says that it uses a progress page, and was sent none");
        }
        let mut names = HashSet::new();
        for function in &hello.functions {
            let name = &function.name;
            if name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) {
                bail!(rules::FUNCTION_NAME, "registered the name {name:?}");
            }
            if name.starts_with("procpool:") {
                bail!(rules::FUNCTION_NAME, "registered the reserved name {name:?}");
            }
            if !names.insert(name) {
                bail!(rules::FUNCTION_NAME, "registered {name:?} twice");
            }
        }
        self.hello = hello;
        self.stage = Stage::SaidHello;
        Ok(())
    }

    fn take_started(&mut self, started: &Started) -> Result<(), Fault> {
        let Started { chunk: id, offset } = *started;
        if self.hello.uses_progress_page {
            bail!(rules::STARTED, "sent Started, though it uses the progress page");
        }
        let is_next = self.chunks.iter().take_while(|chunk| chunk.id != id).all(Chunk::allows_gap);
        match self.chunk_mut(id) {
            Some(chunk)
                if is_next && offset == chunk.num_received() && (chunk.num_started..chunk.end).contains(&offset) =>
            {
                chunk.num_started = offset + 1;
                Ok(())
            }
            _ => Err(Fault::new(rules::STARTED, format!("began item {offset} of chunk {id} out of order"))),
        }
    }

    fn take_recalled(&mut self, recalled: &Recalled) -> Result<(), Fault> {
        let Recalled { chunk: id, first_not_begun: from } = *recalled;
        let begun = self.hello.uses_progress_page.then_some(self.last_begun);
        let Some(chunk) = self.chunk_mut(id) else {
            bail!(rules::RECALL, "answered a recall of chunk {id}, which it was never given");
        };
        if !chunk.was_recalled {
            bail!(rules::RECALL, "gave back chunk {id} without being asked");
        }
        if chunk.given_back_from.is_some() {
            bail!(rules::RECALL, "answered the recall of chunk {id} twice");
        }
        if from < chunk.num_received() || from > chunk.count {
            bail!(
                rules::RECALLED,
                "gave back chunk {id} from offset {from}, after {} of {} results",
                chunk.num_received(),
                chunk.count
            );
        }
        if let Some(offset) = begun.and_then(|begun| chunk.offset_of(begun)).filter(|&offset| offset >= from) {
            bail!(rules::RECALLED, "gave back chunk {id} from offset {from}, and item {offset} had begun");
        }
        chunk.given_back_from = Some(from);
        chunk.end = from;
        Ok(())
    }

    fn take_results(&mut self, results: &Results) -> Result<(), Fault> {
        let (uses_page, begun) = (self.hello.uses_progress_page, self.last_begun);
        let id = results.chunk;
        let Some(index) = self.chunks.iter().position(|chunk| chunk.id == id) else {
            bail!(rules::RESULTS, "sent results of chunk {id}, which it was never given");
        };
        if let Some(earlier) = self.chunks[..index].iter().find(|earlier| !earlier.allows_gap()) {
            bail!(rules::CHUNK_ORDER, "sent results of chunk {id} before those of chunk {}", earlier.id);
        }
        let chunk = &mut self.chunks[index];
        let left = chunk.end - chunk.num_received();
        if results.count == 0 || results.count > left {
            let (rule, why) = match chunk.given_back_from {
                Some(from) => (rules::RECALLED, format!(", as it gave back all from offset {from} on")),
                None => (rules::RESULTS, String::new()),
            };
            bail!(rule, "sent {} results of chunk {id}, which has {left} left{why}", results.count);
        }
        if results.first != chunk.num_received() {
            bail!(
                rules::RESULTS,
                "sent results of chunk {id} from offset {} instead of {}",
                results.first,
                chunk.num_received()
            );
        }
        let contents = contents(chunk.kind, results)?;
        let failures = failures(chunk.kind, results, &contents)?;
        let is_run = |offset: &u32| failures.get(offset).is_none_or(|failure| !is_refusal(failure));
        let last_run = (results.first..results.first + results.count).rev().find(is_run);
        if let Some(offset) = last_run {
            let has_begun =
                if uses_page { chunk.first_sequence + u64::from(offset) <= begun } else { offset < chunk.num_started };
            if !has_begun {
                bail!(
                    if uses_page { rules::BEGUN } else { rules::STARTED },
                    "sent the result of item {offset} of chunk {id}, which it never reported as begun"
                );
            }
            if !uses_page && results.count > 1 {
                bail!(rules::STARTED, "sent several results at once, though it keeps no page");
            }
        }
        chunk.contents.extend(contents);
        chunk.failures.extend(failures);
        chunk.num_frames += 1;
        Ok(())
    }
}

/// Returns whether the item need not have begun: it was not even decoded.
fn is_refusal(failure: &ItemFailure) -> bool {
    failure.kind() == FailureKind::UnknownFunction
}

/// Splits the items of a frame, and decodes them to validate them.
pub(crate) fn contents(kind: ItemKind, results: &Results) -> Result<Vec<Bytes>, Fault> {
    let mut contents = Vec::with_capacity(results.count as usize);
    for record in Records::new(&results.items) {
        let content = record.map_err(|error| Fault::new(rules::ITEMS, format!("sent malformed items: {error}")))?;
        if kind == ItemKind::Values {
            if content.is_empty() {
                bail!(rules::EMPTY_VALUE, "sent a Value of zero bytes");
            }
            value::from_bytes::<Value>(content)
                .map_err(|error| Fault::new(rules::VALUES, format!("sent a value that cannot be read: {error}")))?;
        }
        contents.push(results.items.slice_ref(content));
    }
    if contents.len() != results.count as usize {
        bail!(rules::ITEMS, "announced {} results and sent {}", results.count, contents.len());
    }
    Ok(contents)
}

fn failures(kind: ItemKind, results: &Results, contents: &[Bytes]) -> Result<BTreeMap<u32, ItemFailure>, Fault> {
    let mut next = results.first;
    for failure in &results.failures {
        let offset = failure.offset;
        if offset < next || offset >= results.first + results.count {
            bail!(rules::FAILURES, "sent a failure at offset {offset}, out of order");
        }
        next = offset + 1;
        if failure.kind() == FailureKind::Unspecified {
            bail!(rules::FAILURES, "sent a failure of kind {}", failure.kind);
        }
        let content = &contents[(offset - results.first) as usize];
        let is_placeholder = if kind == ItemKind::Blobs { content.is_empty() } else { content[..] == [0x08, 0x00] };
        if !is_placeholder {
            bail!(rules::PLACEHOLDER, "sent a result beside the failure at offset {offset}");
        }
        if failure.traceback.len() > 64 << 10 {
            bail!(rules::FAILURES, "sent a traceback of {} bytes", failure.traceback.len());
        }
        if failure.data.len() > 64 << 10 {
            bail!(rules::FAILURES, "sent {} bytes of data with a failure", failure.data.len());
        }
    }
    Ok(results.failures.iter().map(|failure| (failure.offset, failure.clone())).collect())
}
