//! What a frame costs on its way out, and on its way in. The bytes of the items are not copied on the way out, so only
//! the header counts there.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use procpool_ipc::proto::{CallStyle, ItemKind, Results, Run};
use procpool_ipc::{
    DEFAULT_MAX_FRAME_BYTES, FrameDecoder, decode_worker_frame, encode_results_header, encode_run_header,
};

/// A result that is a number, as a record of a list.
const RECORD: [u8; 11] = [0x0a, 0x09, 0x11, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f];
const ITEMS: [u32; 3] = [1, 1_000, 100_000];

fn out(criterion: &mut Criterion) {
    // As a session has them.
    let (function, content_type): (Arc<str>, Arc<str>) = ("analyze_match".into(), "".into());
    criterion.bench_function("frame out: header of a Run", |bencher| {
        bencher.iter(|| {
            let run = Run {
                chunk: black_box(1 << 20),
                kind: ItemKind::Values.into(),
                style: CallStyle::Map.into(),
                first_index: 1 << 20,
                count: 1_000,
                first_sequence: 1 << 20,
                attempt: 1,
                ..Run::default()
            };
            encode_run_header(&run, [black_box(&function), &content_type, "", ""], 1_000 * RECORD.len())
        });
    });
}

fn into(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame in: Results");
    for count in ITEMS {
        let items = RECORD.repeat(count as usize);
        let results = Results { chunk: 1, count, busy_ns: 1_000, ..Results::default() };
        let frame = [&encode_results_header(&results, items.len())[..], &items].concat();
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{count} items")), |bencher| {
            let mut decoder = FrameDecoder::new(DEFAULT_MAX_FRAME_BYTES);
            bencher.iter(|| receive(&mut decoder, &frame));
        });
    }
    group.finish();
}

/// Takes a frame in reads as large as the decoder has room for, as a session does.
fn receive(decoder: &mut FrameDecoder, mut bytes: &[u8]) -> procpool_ipc::proto::worker_frame::Frame {
    loop {
        let buffer = decoder.buffer();
        let (read, rest) = bytes.split_at(bytes.len().min(buffer.capacity() - buffer.len()));
        buffer.extend_from_slice(read);
        bytes = rest;
        if let Some(frame) = decoder.next_frame().expect("the frame is within the limit") {
            return decode_worker_frame(frame).expect("the frame is well-formed");
        }
    }
}

fn configured() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30)
}

fn main() {
    let mut criterion = configured().configure_from_args();
    out(&mut criterion);
    into(&mut criterion);
    criterion.final_summary();
}
