//! Bytes in arbitrary pieces → frames.
#![no_main]

#[path = "../harness/frame_decoder.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| harness::frame_decoder(data));
