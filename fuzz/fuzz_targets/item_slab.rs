//! Arbitrary bytes as a list of items, and as values.
#![no_main]

#[path = "../harness/item_slab.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| harness::item_slab(data));
