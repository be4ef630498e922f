//! The functions to check a worker with: `echo`, if it has one, otherwise those with examples.

use bytes::Bytes;
use procpool_ipc::proto::{ApplyArguments, CallStyle, Function, Hello, ItemKind, Run};
use procpool_items::{ItemSlab, SlabBuilder, value};
use prost::Message as _;
use serde_json::{Value, json};

/// The name of the function that returns its argument.
const ECHO: &str = "echo";
/// The name of the function that returns a list of its two arguments.
const PAIR: &str = "pair";

/// A function and how to call it.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) function: String,
    pub(crate) style: CallStyle,
    /// Never empty.
    items: Vec<Value>,
    pub(crate) is_echo: bool,
}

impl Subject {
    /// Returns this many items. Those of echo are all different.
    pub(crate) fn items(&self, count: usize) -> Vec<Value> {
        if self.is_echo {
            return (0..count).map(Value::from).collect();
        }
        self.items.iter().cycle().take(count).cloned().collect()
    }

    /// Returns the items of the example.
    pub(crate) fn example(&self) -> &[Value] {
        &self.items
    }

    /// Returns a chunk of these items.
    pub(crate) fn run(&self, items: &[Value]) -> Run {
        run_values(&self.function, self.style, items)
    }

    /// Returns a chunk of this many items.
    pub(crate) fn run_many(&self, count: usize) -> Run {
        self.run(&self.items(count))
    }
}

/// Returns the functions to call: echo alone, or every function with an example. If there is neither, the kit calls an
/// unknown function, whose failures can still be counted.
pub(crate) fn subjects(hello: &Hello) -> Vec<Subject> {
    if has_function(hello, ECHO) {
        return vec![Subject { function: ECHO.to_owned(), style: CallStyle::Map, items: echo_items(), is_echo: true }];
    }
    examples(hello)
}

/// Returns every function that has an example.
pub(crate) fn examples(hello: &Hello) -> Vec<Subject> {
    hello.functions.iter().filter_map(from_example).collect()
}

/// Returns a function that no worker has.
pub(crate) fn unknown() -> Subject {
    let function = "procpool.check.no_such_function".to_owned();
    Subject { function, style: CallStyle::Map, items: vec![json!(1)], is_echo: false }
}

pub(crate) fn has_function(hello: &Hello, name: &str) -> bool {
    hello.functions.iter().any(|function| function.name == name)
}

/// Returns every kind of value, and numbers at the limits.
pub(crate) fn echo_items() -> Vec<Value> {
    let items = json!([
        null, true, false, 0, -1, 1.5, 9_007_199_254_740_991_u64, -9_007_199_254_740_991_i64, 1e300, "", "text",
        "two\nlines", "äöü € 😀", [], [[]], [1, [2, null], "x"], {}, {"a": {"b": [null]}, "": 0}
    ]);
    items.as_array().cloned().unwrap_or_default()
}

/// Parses an example, a request as JSON. If every item is a list, the items are lists of arguments.
fn from_example(function: &Function) -> Option<Subject> {
    let example: Value = serde_json::from_str(&function.example).ok()?;
    let items = example["values"].as_array().filter(|items| !items.is_empty())?.clone();
    if example.get("kwargs").is_some() || common_of(&example).is_some() {
        return None;
    }
    let style = if items.iter().all(Value::is_array) { CallStyle::Star } else { CallStyle::Map };
    Some(Subject { function: function.name.clone(), style, items, is_echo: false })
}

/// Returns a function of two arguments, and at least one pair of arguments, preferably different ones.
pub(crate) fn pairs(hello: &Hello) -> Option<(String, Vec<(Value, Value)>)> {
    if has_function(hello, PAIR) {
        return Some((PAIR.to_owned(), vec![(json!(1), json!(2)), (json!([3]), json!(4))]));
    }
    let pairs = hello.functions.iter().filter_map(|function| Some((function.name.clone(), example_pairs(function)?)));
    let differ = |pairs: &[(Value, Value)]| pairs.iter().any(|(first, second)| first != second);
    pairs.max_by_key(|(_, pairs)| differ(pairs))
}

/// Parses an example with a common argument, or with lists of two arguments.
fn example_pairs(function: &Function) -> Option<Vec<(Value, Value)>> {
    let example: Value = serde_json::from_str(&function.example).ok()?;
    let items = example["values"].as_array().filter(|items| !items.is_empty())?;
    if let Some(common) = common_of(&example) {
        return Some(items.iter().map(|item| (common.clone(), item.clone())).collect());
    }
    let pair_of = |item: &Value| match item.as_array()?.as_slice() {
        [first, second] => Some((first.clone(), second.clone())),
        _ => None,
    };
    items.iter().map(pair_of).collect()
}

fn common_of(example: &Value) -> Option<&Value> {
    example.get("common_value").or_else(|| example.get("commonValue"))
}

/// Returns a chunk of values.
pub(crate) fn run_values(function: &str, style: CallStyle, items: &[Value]) -> Run {
    let contents: Vec<Vec<u8>> = items.iter().map(encode).collect();
    run(function, style, ItemKind::Values, "", &list(contents.iter().map(Vec::as_slice)))
}

/// Returns a chunk of blobs.
pub(crate) fn run_blobs(function: &str, style: CallStyle, content_type: &str, blobs: &[&[u8]]) -> Run {
    run(function, style, ItemKind::Blobs, content_type, &list(blobs.iter().copied()))
}

/// Returns a call in the style Apply: a chunk of one item, an `ApplyArguments` message.
pub(crate) fn run_apply(function: &str, arguments: &[Value]) -> Run {
    let contents: Vec<Vec<u8>> = arguments.iter().map(encode).collect();
    let arguments = ApplyArguments { args: list(contents.iter().map(Vec::as_slice)), kwargs: Bytes::new() };
    run(function, CallStyle::Apply, ItemKind::Values, "", &list([arguments.encode_to_vec().as_slice()]))
}

/// Returns a chunk of encoded items.
pub(crate) fn run(function: &str, style: CallStyle, kind: ItemKind, content_type: &str, items: &Bytes) -> Run {
    let count = ItemSlab::count(procpool_items::ItemKind::Blobs, items).unwrap_or_default();
    Run {
        function: function.to_owned(),
        style: style.into(),
        kind: kind.into(),
        content_type: content_type.to_owned(),
        count: u32::try_from(count).unwrap_or(u32::MAX),
        items: items.clone(),
        ..Run::default()
    }
}

/// Encodes a list of items.
pub(crate) fn list<'a>(contents: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
    let mut builder = SlabBuilder::new();
    contents.into_iter().for_each(|content| builder.push(content));
    builder.take()
}

/// Encodes a value; one from an example that cannot be encoded becomes null.
pub(crate) fn encode(item: &Value) -> Vec<u8> {
    value::to_bytes_with(item, value::NonFinite::Null).unwrap_or_else(|_| vec![0x08, 0x00])
}
