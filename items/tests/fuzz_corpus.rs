//! What the fuzzer found interesting in lists of items, again.

#[path = "../../fuzz/harness/item_slab.rs"]
mod harness;

#[test]
fn the_corpus_of_the_item_slab() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/item_slab");
    for input in std::fs::read_dir(corpus).unwrap() {
        harness::item_slab(&std::fs::read(input.unwrap().path()).unwrap());
    }
}
