//! Arbitrary bytes as a list of items, and as values. Fuzzed, and run on the corpus by `items/tests/fuzz_corpus.rs`.

use std::collections::BTreeMap;

use bytes::Bytes;
use procpool_items::{ItemKind, ItemSlab, Records, SlabBuilder, SlabProblem, value};
use prost::Message as _;
use prost_types::value::Kind;

/// Holds slabs and values against what they promise, and against another implementation of protobuf.
///
/// # Panics
///
/// If they break it.
pub(crate) fn item_slab(data: &[u8]) {
    let list = Bytes::copy_from_slice(data);
    let blobs = check_slab(ItemKind::Blobs, &list);
    let values = check_slab(ItemKind::Values, &list);
    if values {
        assert!(blobs, "the kinds differ in what an item may be, not in how a list is laid out");
    }
    check_value(data);
    if values {
        for record in Records::new(data) {
            check_value(record.expect("the list was accepted"));
        }
    }
}

/// Checks the slab of a list; tells whether it is one.
fn check_slab(kind: ItemKind, list: &Bytes) -> bool {
    let counted = ItemSlab::count(kind, list);
    let slab = match ItemSlab::parse(kind, list.clone()) {
        Ok(slab) => slab,
        Err(error) => {
            assert!(kind == ItemKind::Values || error.problem != SlabProblem::EmptyValue);
            assert_eq!(counted, Err(error));
            return false;
        }
    };
    assert_eq!(counted, Ok(slab.len()));
    assert_eq!(slab.is_empty(), list.is_empty());
    let mut rebuilt = SlabBuilder::new();
    let mut pieces = Vec::new();
    for index in 0..slab.len() {
        pieces.extend_from_slice(&slab.range(index..index + 1));
        rebuilt.push(&slab.item(index));
        assert!(kind == ItemKind::Blobs || !slab.item(index).is_empty());
    }
    assert_eq!(pieces, &list[..], "its items laid end to end are the list");
    let half = slab.len() / 2;
    assert_eq!([slab.range(0..half), slab.range(half..slab.len())].concat(), &list[..]);

    // What is written anew has the same items, and no more bytes than before.
    let num_items = rebuilt.len();
    let rebuilt = rebuilt.take();
    assert_eq!((num_items, rebuilt.len() <= list.len()), (slab.len(), true));
    let rebuilt = ItemSlab::parse(kind, rebuilt).expect("what we write, we read");
    let items = |slab: &ItemSlab| (0..slab.len()).map(|index| slab.item(index)).collect::<Vec<_>>();
    assert_eq!(items(&rebuilt), items(&slab));
    assert_eq!(rebuilt.first_non_list(), slab.first_non_list());
    let is_list = |index: &usize| slab.item(*index).first() != Some(&0x32);
    assert_eq!(slab.first_non_list(), (0..slab.len()).find(is_list));

    let theirs = ReferenceList::decode(list.clone()).expect("what is a list to us is one to others");
    assert_eq!(theirs.items, items(&slab));
    true
}

/// `ListValue` and `BlobList` as another implementation reads them.
#[derive(Clone, PartialEq, prost::Message)]
struct ReferenceList {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    items: Vec<Bytes>,
}

fn check_value(bytes: &[u8]) {
    // None of these may do more than fail.
    let _ = value::from_bytes::<Vec<Option<u32>>>(bytes);
    let _ = value::from_bytes::<BTreeMap<i64, (bool, f64)>>(bytes);
    let _ = value::from_bytes::<Result<f32, ()>>(bytes);
    let _ = value::from_bytes::<Result<(i8, char), BTreeMap<bool, String>>>(bytes);
    let _ = value::sequence_from_bytes::<(String, Option<i128>)>(bytes);
    let _ = value::list_from_bytes::<serde_json::Value>(bytes);
    let is_list = value::as_list(bytes);

    let Ok(decoded) = value::from_bytes::<serde_json::Value>(bytes) else { return };
    assert_eq!(is_list.map(|list| list.is_some()), Ok(decoded.is_array()));
    let encoded = value::to_bytes(&decoded).expect("what was a value can be one");
    assert_eq!(value::from_bytes::<serde_json::Value>(&encoded).as_ref(), Ok(&decoded));

    let theirs = prost_types::Value::decode(bytes).expect("what is a value to us is one to others");
    let of_encoded = prost_types::Value::decode(&encoded[..]).expect("so is what we write");
    assert_same(&theirs, &decoded);
    assert_same(&of_encoded, &decoded);
}

fn assert_same(theirs: &prost_types::Value, ours: &serde_json::Value) {
    match (theirs.kind.as_ref().expect("a value has a kind"), ours) {
        (Kind::NullValue(_), serde_json::Value::Null) => {}
        (Kind::BoolValue(theirs), serde_json::Value::Bool(ours)) => assert_eq!(theirs, ours),
        (Kind::StringValue(theirs), serde_json::Value::String(ours)) => assert_eq!(theirs, ours),
        (Kind::NumberValue(theirs), serde_json::Value::Number(ours)) => assert_eq!(Some(*theirs), ours.as_f64()),
        (Kind::ListValue(theirs), serde_json::Value::Array(ours)) => {
            assert_eq!(theirs.values.len(), ours.len());
            theirs.values.iter().zip(ours).for_each(|(theirs, ours)| assert_same(theirs, ours));
        }
        (Kind::StructValue(theirs), serde_json::Value::Object(ours)) => {
            assert_eq!(theirs.fields.len(), ours.len());
            theirs.fields.iter().for_each(|(key, theirs)| assert_same(theirs, &ours[key]));
        }
        (theirs, ours) => panic!("{theirs:?} is not {ours:?}"),
    }
}
