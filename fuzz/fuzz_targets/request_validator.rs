//! Arbitrary requests → the gRPC service. The harness is in server/src/rpc/fuzzing.rs: the service is private.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| procpool_server::fuzz_request(data));
