//! The decoder yields the same frames however the bytes arrive, and never makes room for a frame over the limit.

use bytes::Bytes;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_ipc::proto::{ItemFailure, Results, Run};
use procpool_ipc::{
    FrameDecoder, FrameError, decode_server_frame, decode_worker_frame, encode_results_header, encode_run_header,
    encode_server_frame, encode_worker_frame,
};
use proptest::collection::vec;
use proptest::prelude::*;

const MAX_FRAME_BYTES: u32 = 300_000;

fn with_length(payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).expect("it is short").to_be_bytes().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// Feeds a stream in pieces, as reads of a socket would, and returns the frames.
fn feed(decoder: &mut FrameDecoder, stream: &[u8], mut piece_lens: impl Iterator<Item = usize>) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let buffer = decoder.buffer();
        let room = buffer.capacity() - buffer.len();
        assert!(room > 0, "there is always room to read into");
        let (piece, others) = rest.split_at(piece_lens.next().unwrap_or(usize::MAX).clamp(1, rest.len().min(room)));
        buffer.extend_from_slice(piece);
        rest = others;
        while let Some(frame) = decoder.next_frame().expect("no frame is over the limit") {
            frames.push(frame);
        }
    }
    frames
}

proptest! {
    #[test]
    fn any_split_gives_the_same_frames(
        payload_lens in vec(prop_oneof![0..40_usize, 0..2000_usize, 60_000..140_000_usize], 0..12),
        piece_lens in vec(prop_oneof![1..9_usize, 1..100_000_usize], 1..200),
        fill in any::<u8>(),
    ) {
        let payloads: Vec<Vec<u8>> =
            payload_lens.iter().zip(0_u8..).map(|(&len, index)| vec![fill.wrapping_add(index); len]).collect();
        let stream: Vec<u8> = payloads.iter().flat_map(|payload| with_length(payload)).collect();

        let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES);
        let frames = feed(&mut decoder, &stream, piece_lens.into_iter());

        prop_assert_eq!(frames, payloads);
        prop_assert!(!decoder.has_partial_frame());
    }

    #[test]
    fn a_frame_over_the_limit_is_never_buffered(length in MAX_FRAME_BYTES + 1.., before in 0..3_usize) {
        let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES);
        let mut stream = with_length(b"fine").repeat(before);
        stream.extend_from_slice(&length.to_be_bytes());
        decoder.buffer().extend_from_slice(&stream);
        for _ in 0..before {
            prop_assert_eq!(decoder.next_frame().unwrap().unwrap(), &b"fine"[..]);
        }

        let expected = FrameError::TooLong { length, limit: MAX_FRAME_BYTES };
        prop_assert_eq!(decoder.next_frame(), Err(expected.clone()));
        prop_assert!(decoder.buffer().capacity() < 200_000);
        // More bytes change nothing.
        decoder.buffer().extend_from_slice(b"more");
        prop_assert_eq!(decoder.next_frame(), Err(expected));
    }

    #[test]
    fn garbage_never_panics(stream in vec(any::<u8>(), 0..4000)) {
        let mut decoder = FrameDecoder::new(1000);
        decoder.buffer().extend_from_slice(&stream);
        while let Ok(Some(frame)) = decoder.next_frame() {
            // Nearly always an error; what matters is that it returns.
            let _ = decode_server_frame(frame);
        }
    }

    #[test]
    fn a_run_header_with_its_texts_and_items_is_the_whole_frame(
        items in vec(any::<u8>(), 0..300),
        chunk in any::<u64>(),
        texts in any::<[String; 4]>(),
    ) {
        let mut run = Run { chunk, count: 3, common: 7, stamp_start: true, ..Run::default() };
        let header = encode_run_header(&run, texts.each_ref().map(String::as_str), items.len());
        run.items = Bytes::from(items.clone());
        [run.function, run.content_type, run.traceparent, run.tracestate] = texts;
        let sent = [&header[..], &items].concat();
        let frame = ServerFrame::Run(run);
        // The texts stand behind the numbers, where the generated code has them between.
        prop_assert_eq!(sent.len(), encode_server_frame(frame.clone()).len());
        let received = feed(&mut FrameDecoder::new(MAX_FRAME_BYTES), &sent, std::iter::empty());
        prop_assert_eq!(received.len(), 1);
        prop_assert_eq!(decode_server_frame(received[0].clone()), Ok(frame));
    }

    #[test]
    fn a_results_header_with_its_items_is_the_whole_frame(items in vec(any::<u8>(), 0..300), first in any::<u32>()) {
        let failure = ItemFailure { offset: first, message: "no".into(), ..ItemFailure::default() };
        let mut results = Results { chunk: 1, first, count: 1, failures: vec![failure], ..Results::default() };
        let header = encode_results_header(&results, items.len());
        results.items = Bytes::from(items.clone());
        prop_assert_eq!([&header[..], &items].concat(), encode_worker_frame(WorkerFrame::Results(results)));
    }
}

#[test]
fn long_frames_and_their_items_are_not_copied() {
    let items = Bytes::from(vec![7; 100_000]);
    let run = encode_server_frame(ServerFrame::Run(Run { items, ..Run::default() }));
    let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES);
    decoder.buffer().extend_from_slice(&run[..50]);
    assert_eq!(decoder.next_frame(), Ok(None));
    let buffer = decoder.buffer();
    buffer.extend_from_slice(&run[50..]);
    let buffered = buffer.as_ptr_range();

    let frame = decoder.next_frame().unwrap().unwrap();
    assert!(buffered.contains(&frame.as_ptr()));
    let ServerFrame::Run(run) = decode_server_frame(frame).unwrap() else { panic!("it is a run") };
    assert_eq!(run.items.len(), 100_000);
    assert!(buffered.contains(&run.items.as_ptr()));
}

/// An empty failure or function is two bytes in a frame, and 80 or more when it is decoded.
#[test]
fn a_frame_from_a_worker_has_a_limited_number_of_fields() {
    const LIMIT: usize = 1 << 20;
    let too_many = Err(FrameError::TooManyFields { limit: LIMIT });
    // A frame of a kind, with the same field of two bytes so often.
    let frame = |kind: u8, field: [u8; 2], count: usize| {
        let mut frame = vec![kind << 3 | 2];
        prost::encoding::encode_varint(2 * count as u64, &mut frame);
        frame.extend_from_slice(&field.repeat(count));
        frame
    };
    let (hello, results, failure, function, busy) = (1, 4, *b"\x22\0", *b"\x22\0", *b"\x28\0");
    assert_eq!(decode_worker_frame(frame(results, failure, LIMIT).into()), too_many);
    assert_eq!(decode_worker_frame(frame(hello, function, LIMIT).into()), too_many);
    // In pieces that protobuf merges.
    assert_eq!(decode_worker_frame(frame(results, failure, LIMIT / 2).repeat(2).into()), too_many);
    let most = decode_worker_frame(frame(results, busy, LIMIT - 1).into());
    assert_eq!(most, Ok(WorkerFrame::Results(Results::default())));
    let two = decode_worker_frame(frame(results, failure, 2).into());
    assert_eq!(
        two,
        Ok(WorkerFrame::Results(Results { failures: vec![ItemFailure::default(); 2], ..Results::default() }))
    );
    let Ok(WorkerFrame::Hello(hello)) = decode_worker_frame(frame(hello, function, 3).into()) else { panic!() };
    assert_eq!(hello.functions.len(), 3);
}

#[test]
fn a_frame_of_the_limit_is_fine_and_moves_at_most_once() {
    let stream = with_length(&vec![1; MAX_FRAME_BYTES as usize]);
    let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES);
    decoder.buffer().extend_from_slice(&stream[..100]);
    assert_eq!(decoder.next_frame(), Ok(None));
    let room_at = decoder.buffer().as_ptr();
    for piece in stream[100..].chunks(1000) {
        assert_eq!(decoder.next_frame(), Ok(None));
        decoder.buffer().extend_from_slice(piece);
    }
    let frame = decoder.next_frame().unwrap().unwrap();
    assert_eq!(frame.len(), MAX_FRAME_BYTES as usize);
    assert_eq!(frame.as_ptr(), room_at.wrapping_add(4));
}

/// Returns how many bytes of memory these keep, if nothing else keeps them too.
fn kept_by(bytes: Bytes) -> usize {
    bytes.try_into_mut().expect("nothing else keeps it").capacity()
}

proptest! {
    #[test]
    fn a_frame_that_is_kept_keeps_no_more_than_itself(
        payload_lens in vec(prop_oneof![1..40_usize, 1..2000_usize, 60_000..140_000_usize], 1..12),
        piece_lens in vec(prop_oneof![1..9_usize, 1..100_000_usize], 1..200),
    ) {
        let stream: Vec<u8> = payload_lens.iter().flat_map(|&len| with_length(&vec![7; len])).collect();
        let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES);
        for (frame, len) in feed(&mut decoder, &stream, piece_lens.into_iter()).into_iter().zip(payload_lens) {
            prop_assert_eq!(frame.len(), len);
            // A long one has its prefix before it.
            prop_assert!(kept_by(frame) <= len + 4);
        }
        prop_assert!(decoder.buffer().capacity() <= 128 << 10, "nor does the decoder keep what a long frame took");
    }
}

#[test]
fn results_that_are_kept_do_not_keep_the_errors_beside_them() {
    for (items_len, message_len) in [(10, 0), (10, 100_000), (100_000, 100), (100_000, 100_000)] {
        let failures = vec![ItemFailure { message: "x".repeat(message_len), ..ItemFailure::default() }];
        let results = Results { failures, items: vec![7; items_len].into(), ..Results::default() };
        let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES);
        let stream = encode_worker_frame(WorkerFrame::Results(results));
        let frame = feed(&mut decoder, &stream, std::iter::empty()).pop().unwrap();
        let WorkerFrame::Results(results) = decode_worker_frame(frame).unwrap() else { panic!("they are results") };
        assert_eq!(results.items.len(), items_len);
        let kept = kept_by(results.items);
        assert!(kept <= items_len + items_len / 15, "{items_len} bytes keep {kept}");
    }
}

#[test]
fn a_large_frame_takes_its_memory_along() {
    let large = with_length(&vec![1; 16 << 20]);
    // What came behind it in the same read stays: a whole frame and a half.
    let behind = [with_length(b"small"), with_length(b"half")[..6].to_vec()].concat();
    for stream in [large.clone(), [large, behind].concat()] {
        let mut decoder = FrameDecoder::new(u32::MAX);
        let frames = feed(&mut decoder, &stream, std::iter::repeat(50_000));
        assert_eq!(frames[0].len(), 16 << 20);
        let is_last = frames.len() == 1;
        drop(frames);
        assert!(decoder.buffer().capacity() < 1 << 20, "{}", decoder.buffer().capacity());
        if !is_last {
            decoder.buffer().extend_from_slice(b"lf");
            assert_eq!(decoder.next_frame().unwrap().unwrap(), b"half"[..]);
        }
    }
}
