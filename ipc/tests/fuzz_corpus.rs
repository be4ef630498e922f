//! What the fuzzer found interesting in the frame decoder, again.

#[path = "../../fuzz/harness/frame_decoder.rs"]
mod harness;

#[test]
fn the_corpus_of_the_frame_decoder() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/frame_decoder");
    for input in std::fs::read_dir(corpus).unwrap() {
        harness::frame_decoder(&std::fs::read(input.unwrap().path()).unwrap());
    }
}
