//! Finding items in encoded lists, good and bad, and laying them end to end.

use bytes::Bytes;
use procpool_items::{
    ItemKind, ItemSlab, Records, SlabBuilder, SlabError, SlabProblem, begin_record, end_record, push_record,
};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{ListValue, Value};

fn blobs(contents: &[&[u8]]) -> ItemSlab {
    let mut builder = SlabBuilder::new();
    for content in contents {
        builder.push(content);
    }
    assert_eq!(builder.len(), contents.len());
    ItemSlab::parse(ItemKind::Blobs, builder.take()).expect("the builder writes lists")
}

fn error_of(kind: ItemKind, bytes: &[u8]) -> SlabError {
    let error = ItemSlab::parse(kind, Bytes::copy_from_slice(bytes)).expect_err("it is malformed");
    assert_eq!(ItemSlab::count(kind, bytes), Err(error.clone()));
    error
}

#[test]
fn an_empty_list_has_no_items() {
    let slab = ItemSlab::parse(ItemKind::Values, Bytes::new()).unwrap();
    assert!(slab.is_empty());
    assert_eq!(slab.range(0..0), Bytes::new());
    assert_eq!(slab.first_non_list(), None);
    assert!(ItemSlab::empty(ItemKind::Blobs).is_empty());
    assert_eq!(ItemSlab::count(ItemKind::Values, b""), Ok(0));
}

#[test]
fn items_are_found_and_sliced_without_copying() {
    let long = vec![9; 300];
    let slab = blobs(&[b"a", b"", &long, b"bc"]);
    assert_eq!(slab.len(), 4);
    assert_eq!(slab.kind(), ItemKind::Blobs);
    assert_eq!(slab.item(0), &b"a"[..]);
    assert_eq!(slab.item(1), &b""[..]);
    assert_eq!(slab.item(2), &long[..]);
    assert_eq!(slab.item(3), &b"bc"[..]);
    assert!(slab.bytes().as_ptr_range().contains(&slab.item(2).as_ptr()));

    let middle = ItemSlab::parse(ItemKind::Blobs, slab.range(1..3)).unwrap();
    assert_eq!((middle.len(), middle.item(1)), (2, slab.item(2)));
    assert_eq!(slab.range(0..4), slab.bytes());
    assert_eq!(&[slab.range(0..2), slab.range(2..4)].concat(), slab.bytes());
}

#[test]
fn an_empty_value_is_named_and_an_empty_blob_is_fine() {
    let list = b"\x0a\x02\x08\x00\x0a\x00";
    assert_eq!(error_of(ItemKind::Values, list), SlabError { index: 1, problem: SlabProblem::EmptyValue });
    assert_eq!(ItemSlab::count(ItemKind::Blobs, list), Ok(2));
}

#[test]
fn malformed_lists_are_refused_at_the_first_bad_item() {
    let bad: [&[u8]; 7] = [
        // Another field, another wire type, no length, a length past the end, a length without end, one over 64 bits.
        b"\x12\x01a",
        b"\x08\x01",
        b"\x0a",
        b"\x0a\x05abc",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ];
    for record in bad {
        let list = [b"\x0a\x02\x20\x01", record].concat();
        for kind in [ItemKind::Values, ItemKind::Blobs] {
            assert_eq!(error_of(kind, &list), SlabError { index: 1, problem: SlabProblem::Malformed }, "{record:?}");
        }
        let records: Vec<_> = Records::new(&list).collect();
        assert_eq!(records, [Ok(&b"\x20\x01"[..]), Err(SlabProblem::Malformed)]);
    }
}

#[test]
fn the_error_says_where_and_what() {
    let error = error_of(ItemKind::Values, b"\x0a\x00");
    assert_eq!(error.to_string(), "item 0: an empty Value; send null_value for null");
}

#[test]
fn the_first_item_that_is_no_list_is_found() {
    let number = Value { kind: Some(Kind::NumberValue(1.0)) };
    let list = Value { kind: Some(Kind::ListValue(ListValue { values: vec![number.clone()] })) };
    let encoded = |values: Vec<Value>| Bytes::from(ListValue { values }.encode_to_vec());
    let slab = ItemSlab::parse(ItemKind::Values, encoded(vec![list.clone(), list.clone()])).unwrap();
    assert_eq!(slab.first_non_list(), None);
    let slab = ItemSlab::parse(ItemKind::Values, encoded(vec![list.clone(), number, list])).unwrap();
    assert_eq!(slab.first_non_list(), Some(1));
    assert_eq!(blobs(&[b"\x32", b""]).first_non_list(), Some(1));
}

#[test]
fn a_placeholder_is_a_null_or_an_empty_blob() {
    for (kind, content) in [(ItemKind::Values, &b"\x08\x00"[..]), (ItemKind::Blobs, b"")] {
        let mut builder = SlabBuilder::new();
        builder.push_placeholder(kind);
        assert_eq!(builder.len(), 1);
        let list = builder.take();
        assert_eq!(list, kind.placeholder());
        let slab = ItemSlab::parse(kind, list).unwrap();
        assert_eq!(slab.item(0), content);
        assert!(builder.is_empty());
        assert_eq!(builder.take(), Bytes::new());
    }
}

proptest! {
    #[test]
    fn a_list_is_what_was_pushed(contents in vec(vec(any::<u8>(), 0..300), 0..40)) {
        let slab = blobs(&contents.iter().map(Vec::as_slice).collect::<Vec<_>>());
        prop_assert_eq!(slab.len(), contents.len());
        for (index, content) in contents.iter().enumerate() {
            prop_assert_eq!(&slab.item(index), content);
        }
    }

    #[test]
    fn garbage_never_panics(list in vec(prop_oneof![Just(0x0a_u8), 0..4_u8, any::<u8>()], 0..60)) {
        for kind in [ItemKind::Values, ItemKind::Blobs] {
            let count = ItemSlab::count(kind, &list);
            let parsed = ItemSlab::parse(kind, Bytes::from(list.clone()));
            prop_assert_eq!(parsed.map(|slab| slab.len()), count);
        }
    }
}

#[test]
fn records_written_in_place_are_those_of_the_builder() {
    let lengths = [0, 1, 127, 128, 129, 16_383, 16_384, 70_000];
    let (mut builder, mut in_place, mut pushed) = (SlabBuilder::new(), Vec::new(), Vec::new());
    for length in lengths {
        let content = vec![7; length];
        builder.push(&content);
        let start = begin_record(&mut in_place);
        in_place.extend_from_slice(&content);
        end_record(&mut in_place, start);
        push_record(&mut pushed, &content);
    }
    let expected = builder.take();
    assert_eq!(in_place, expected);
    assert_eq!(pushed, expected);
}
