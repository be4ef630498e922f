//! What it costs to find a million items in a request, and to cut chunks off them.

use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use procpool_items::{ItemKind, ItemSlab, SlabBuilder};

const ITEMS: usize = 1_000_000;
const CHUNK: usize = 1_000;

/// Returns a list of numbers, as a client sends it: records of eleven bytes.
fn list() -> Bytes {
    let mut builder = SlabBuilder::new();
    for number in (0_u32..).map(f64::from).take(ITEMS) {
        // number_value, the second field of a Value.
        builder.push(&[&[0x11], &number.to_le_bytes()[..]].concat());
    }
    builder.take()
}

fn slab(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("slab");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(30);
    group.throughput(Throughput::Elements(ITEMS as u64));
    let list = list();
    group.bench_function("parse", |bencher| {
        let parse = |list| ItemSlab::parse(ItemKind::Values, list).expect("the list is well-formed");
        bencher.iter_batched(|| list.clone(), parse, BatchSize::LargeInput);
    });
    let slab = ItemSlab::parse(ItemKind::Values, list).expect("the list is well-formed");
    group.bench_function("cut chunks of 1000", |bencher| {
        let cut = || (0..ITEMS).step_by(CHUNK).map(|first| slab.range(first..first + CHUNK).len()).sum::<usize>();
        bencher.iter(cut);
    });
    group.bench_function("cut every item", |bencher| {
        bencher.iter(|| (0..ITEMS).map(|index| slab.item(index).len()).sum::<usize>());
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    slab(&mut criterion);
    criterion.final_summary();
}
