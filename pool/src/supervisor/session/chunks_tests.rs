//! What a worker may say of its chunks, what it may not, and what a dead one leaves.

use std::sync::Arc;

use bytes::Bytes;
use procpool_ipc::proto;
use procpool_items::{ItemKind, SlabBuilder};
use procpool_scheduler::ChunkId;

use super::chunks::{AssignedChunks, Position};
use crate::call::{CallStyle, TraceContext};
use crate::supervisor::interface::ChunkRun;

fn run(chunk: u64, count: u32) -> ChunkRun {
    ChunkRun {
        chunk: ChunkId(chunk),
        job: 1,
        function: Arc::from("f"),
        kind: ItemKind::Blobs,
        content_type: Arc::from(""),
        style: CallStyle::Map,
        first_index: 0,
        count,
        attempt: 1,
        time_limit: None,
        trace: Arc::new(TraceContext::default()),
        common: None,
        parts: Vec::new(),
    }
}

/// Chunks 1, 2, … of these counts.
fn chunks_of(counts: &[u32]) -> AssignedChunks {
    let mut chunks = AssignedChunks::new();
    let mut expected_sequence = 1;
    for (chunk, &count) in (1..).zip(counts) {
        assert_eq!(chunks.add(&run(chunk, count), 0), expected_sequence);
        expected_sequence += u64::from(count);
    }
    chunks
}

fn blobs(count: u32) -> Bytes {
    let mut slab = SlabBuilder::new();
    for number in 0..count {
        slab.push(number.to_string().as_bytes());
    }
    slab.take()
}

fn results(chunk: u64, first: u32, count: u32) -> proto::Results {
    proto::Results { chunk, first, count, items: blobs(count), ..Default::default() }
}

fn recalled(chunk: u64, first_not_begun: u32) -> proto::Recalled {
    proto::Recalled { chunk, first_not_begun }
}

fn position(chunk: u64, offset: u32) -> Position {
    Position { chunk: ChunkId(chunk), offset }
}

fn located(chunks: &AssignedChunks, sequence: u64) -> Option<Position> {
    chunks.locate(sequence).map(|(_, position)| position)
}

#[test]
fn results_in_order_are_taken_and_all_else_refused() {
    let mut chunks = chunks_of(&[3, 2]);
    assert!(chunks.take_results(results(2, 0, 1)).is_err(), "chunk 1 comes first");
    assert!(chunks.take_results(results(9, 0, 1)).is_err(), "unknown chunk");
    assert!(chunks.take_results(results(1, 1, 1)).is_err(), "a gap");
    assert!(chunks.take_results(results(1, 0, 0)).is_err(), "no results");
    assert!(chunks.take_results(results(1, 0, 4)).is_err(), "too many");
    let far_too_many = proto::Results { count: u32::MAX, ..results(1, 0, 1) };
    assert!(chunks.take_results(far_too_many).is_err());
    assert!(chunks.take_results(proto::Results { items: blobs(1), ..results(1, 0, 2) }).is_err(), "a false count");
    assert!(
        chunks.take_results(proto::Results { items: Bytes::from_static(b"\x0a\x05ab"), ..results(1, 0, 1) }).is_err()
    );

    assert_eq!(chunks.take_results(results(1, 0, 2)).unwrap().count, 2);
    assert!(chunks.take_results(results(1, 0, 2)).is_err(), "a second answer");
    chunks.take_results(results(1, 2, 1)).unwrap();
    assert!(chunks.take_results(results(1, 3, 1)).is_err(), "the chunk is finished");
    chunks.take_results(results(2, 0, 2)).unwrap();
    assert!(chunks.front().is_none());
}

#[test]
fn an_empty_value_is_refused() {
    let mut chunks = AssignedChunks::new();
    chunks.add(&ChunkRun { kind: ItemKind::Values, ..run(1, 1) }, 0);
    let empty = proto::Results { items: Bytes::from_static(b"\x0a\x00"), ..results(1, 0, 1) };
    assert!(chunks.take_results(empty).is_err());
}

#[test]
fn a_recalled_chunk_ends_where_the_worker_says() {
    let mut chunks = chunks_of(&[4, 1]);
    assert!(chunks.take_recalled(&recalled(1, 2)).is_err(), "not asked");
    assert!(chunks.recall(ChunkId(1), false));
    chunks.take_results(results(1, 0, 1)).unwrap();
    assert!(chunks.take_recalled(&recalled(1, 0)).is_err(), "item 0 has a result");
    assert!(chunks.take_recalled(&recalled(1, 5)).is_err(), "beyond the chunk");
    assert_eq!(chunks.take_recalled(&recalled(1, 2)), Ok(Some(position(1, 2))));
    assert!(chunks.take_recalled(&recalled(1, 2)).is_err(), "a second answer");
    assert!(chunks.take_results(results(1, 1, 2)).is_err(), "item 2 was given back");
    chunks.take_results(results(1, 1, 1)).unwrap();
    chunks.take_results(results(2, 0, 1)).unwrap();
}

#[test]
fn the_answer_to_a_recall_and_results_may_cross() {
    let mut chunks = chunks_of(&[2, 1]);
    chunks.recall(ChunkId(1), false);
    chunks.take_results(results(1, 0, 2)).unwrap();
    assert_eq!(chunks.take_recalled(&recalled(1, 2)), Ok(None), "the chunk has finished");
    assert!(chunks.take_recalled(&recalled(1, 2)).is_err());
    assert!(!chunks.recall(ChunkId(1), false), "nothing to recall any more");

    let mut chunks = chunks_of(&[2, 1]);
    chunks.recall(ChunkId(1), false);
    chunks.take_results(results(2, 0, 1)).unwrap();
    assert_eq!(chunks.take_recalled(&recalled(1, 0)), Ok(Some(position(1, 0))));
    assert!(chunks.front().is_none());
}

#[test]
fn the_begun_word_names_the_item_without_a_result() {
    let mut chunks = chunks_of(&[3, 2]);
    assert_eq!(located(&chunks, 0), None);
    assert_eq!(located(&chunks, 1), Some(position(1, 0)));
    assert_eq!(located(&chunks, 4), Some(position(2, 0)));
    assert_eq!(located(&chunks, 6), None, "never given out");
    assert_eq!(located(&chunks, u64::MAX), None);
    chunks.take_results(results(1, 0, 2)).unwrap();
    assert_eq!(located(&chunks, 2), None, "it has its result");
    assert_eq!(located(&chunks, 3), Some(position(1, 2)));
}

#[test]
fn a_journal_adds_what_was_not_sent() {
    let mut chunks = chunks_of(&[5, 2]);
    chunks.take_results(results(1, 0, 2)).unwrap();
    // Items 1, 2 and 3: the first of them was sent as well.
    let recovered = chunks.take_journal(2, blobs(3)).unwrap();
    assert_eq!((recovered.chunk, recovered.first, recovered.count), (ChunkId(1), 2, 2));
    assert_eq!(&recovered.items[..], b"\x0a\x011\x0a\x012");
    assert_eq!(located(&chunks, 5), Some(position(1, 4)));
    assert!(chunks.take_journal(2, blobs(3)).is_none(), "all known");
    assert!(chunks.take_journal(6, Bytes::from_static(b"\xff")).is_none(), "malformed");
    assert!(chunks.take_journal(6, blobs(3)).is_none(), "more than the chunk has");
    assert!(chunks.take_journal(7, blobs(1)).is_none(), "a gap");
    assert!(chunks.take_journal(0, blobs(1)).is_none());
    assert!(chunks.take_journal(u64::MAX, blobs(1)).is_none());
    assert_eq!(chunks.take_journal(6, blobs(2)).unwrap().count, 2);
}

#[test]
fn items_passed_without_a_result_are_lost() {
    let mut chunks = chunks_of(&[3, 4, 1]);
    chunks.take_results(results(1, 0, 1)).unwrap();
    // The worker began item 2 of chunk 2.
    let lost = chunks.take_lost(6);
    assert_eq!(lost, [(ChunkId(1), ItemKind::Blobs, 1..3), (ChunkId(2), ItemKind::Blobs, 0..2)]);
    assert_eq!(located(&chunks, 6), Some(position(2, 2)));
    assert!(chunks.take_lost(6).is_empty());
}

#[test]
fn nothing_is_lost_when_nothing_was_passed() {
    let mut chunks = chunks_of(&[3, 2]);
    assert!(chunks.take_lost(0).is_empty());
    assert!(chunks.take_lost(1).is_empty());
    // The rest of a recalled chunk never began, even where its answer did not come through.
    chunks.recall(ChunkId(1), false);
    chunks.take_results(results(1, 0, 1)).unwrap();
    assert!(chunks.take_lost(4).is_empty());
    assert_eq!(located(&chunks, 4), Some(position(2, 0)));
}

#[test]
fn a_worker_without_a_page_says_what_begins() {
    let mut chunks = chunks_of(&[2]);
    let started = |chunk, offset| proto::Started { chunk, offset };
    assert_eq!(chunks.started(), 0);
    assert!(chunks.take_started(&started(1, 1)).is_err(), "out of turn");
    assert!(chunks.take_started(&started(2, 0)).is_err(), "unknown chunk");
    chunks.take_started(&started(1, 0)).unwrap();
    assert_eq!(located(&chunks, chunks.started()), Some(position(1, 0)));
    chunks.take_results(results(1, 0, 1)).unwrap();
    assert_eq!(located(&chunks, chunks.started()), None);
    chunks.take_started(&started(1, 1)).unwrap();
    assert_eq!(located(&chunks, chunks.started()), Some(position(1, 1)));
}
