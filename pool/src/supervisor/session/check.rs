//! Checks on what a worker says that need no memory of what it said before.

use std::collections::HashSet;
use std::ops::Range;

use bytes::Bytes;
use procpool_ipc::proto;

use crate::error::{CallPart, ItemFailure};
use crate::function::{FunctionInfo, RESERVED_PREFIX};

const MAX_NAME_BYTES: usize = 256;
/// The longest message or traceback that is kept; the rest is cut.
const MAX_TEXT_BYTES: usize = 64 << 10;
/// The longest data of an error that is kept.
const MAX_DATA_BYTES: usize = 64 << 10;
const CUT_MARK: &str = "… (cut)";

/// Checks the functions of a Hello frame.
///
/// # Errors
///
/// What is wrong with them, as a fragment of a sentence about the worker.
pub(super) fn functions(
    functions: Vec<proto::Function>,
    takes_common: bool,
    allow_pickle: bool,
) -> Result<Vec<FunctionInfo>, String> {
    let mut names = HashSet::new();
    for function in &functions {
        let name = &function.name;
        if name.is_empty() {
            return Err("registered a function without a name".to_owned());
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(format!("registered a function with a name of {} bytes", name.len()));
        }
        if name.chars().any(char::is_control) {
            return Err(format!("registered a function with control characters in its name, {name:?}"));
        }
        if name.starts_with(RESERVED_PREFIX) && !allow_pickle {
            return Err(format!(
                "registered the function {name:?}, and names that begin with {RESERVED_PREFIX:?} are reserved for functions that \
                 clients send as pickles, which this pool does not allow (allow_pickle)"
            ));
        }
        if !names.insert(name.as_str()) {
            return Err(format!("registered the function {name:?} twice"));
        }
    }
    let to_info = |function: proto::Function| FunctionInfo {
        name: function.name,
        signature: function.signature,
        doc: function.doc,
        example: function.example,
        idempotent: function.idempotent,
        takes_common,
    };
    Ok(functions.into_iter().map(to_info).collect())
}

/// Checks the failures of a Results frame that has results for these offsets.
///
/// # Errors
///
/// What is wrong with them, as the end of "results with …".
pub(super) fn failures(
    failures: Vec<proto::ItemFailure>,
    offsets: Range<u32>,
) -> Result<Vec<(u32, ItemFailure)>, String> {
    let mut next = offsets.start;
    let mut checked = Vec::with_capacity(failures.len());
    for failure in failures {
        let offset = failure.offset;
        if offset < next || offset >= offsets.end {
            return Err(format!("a failure at offset {offset}, where one from {next} to {} could be", offsets.end));
        }
        next = offset + 1;
        checked.push((offset, item_failure(failure)?));
    }
    Ok(checked)
}

fn item_failure(mut failure: proto::ItemFailure) -> Result<ItemFailure, String> {
    let kind = failure.kind();
    let message = cut(std::mem::take(&mut failure.message));
    Ok(match kind {
        proto::FailureKind::Raised => {
            let (kind, traceback) = (cut(failure.r#type), cut(failure.traceback));
            ItemFailure::Raised { kind, message, traceback, data: own_data(&failure.data) }
        }
        proto::FailureKind::NotEncodable => ItemFailure::ResultNotEncodable { message },
        proto::FailureKind::InvalidItem => {
            // A part that this server does not know is in the message.
            let part = match failure.part() {
                proto::CallPart::Unspecified => CallPart::Item,
                proto::CallPart::Common => CallPart::Common,
                proto::CallPart::Kwargs => CallPart::Kwargs,
            };
            ItemFailure::InvalidItem { part, message }
        }
        // A worker is given nothing else.
        proto::FailureKind::UnknownFunction => {
            return Err(format!("a failure at offset {} that denies a function which it registered", failure.offset));
        }
        proto::FailureKind::Unspecified => return Err(format!("a failure at offset {} of no kind", failure.offset)),
    })
}

/// Returns a copy: a slice of the frame would keep the whole frame in memory. Part of the data would be of no use.
fn own_data(data: &Bytes) -> Bytes {
    if data.len() > MAX_DATA_BYTES { Bytes::new() } else { Bytes::copy_from_slice(data) }
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        let mut end = MAX_TEXT_BYTES - CUT_MARK.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(CUT_MARK);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str) -> proto::Function {
        proto::Function { name: name.to_owned(), ..Default::default() }
    }

    fn failure(offset: u32, kind: proto::FailureKind) -> proto::ItemFailure {
        proto::ItemFailure { offset, kind: kind.into(), message: "m".to_owned(), ..Default::default() }
    }

    #[test]
    fn bad_names_are_refused() {
        let longest = "x".repeat(256);
        assert_eq!(functions(vec![function("a.b"), function(&longest)], true, false).unwrap().len(), 2);
        for names in [&["a", "a"][..], &[""], &["a\nb"], &["\u{7f}"], &[&format!("{longest}x")]] {
            let list = names.iter().map(|name| function(name)).collect();
            assert!(functions(list, true, true).is_err(), "{names:?}");
        }
    }

    #[test]
    fn reserved_names_are_for_pools_that_allow_pickles() {
        let registered = |allow_pickle| functions(vec![function("procpool:map")], true, allow_pickle);
        assert!(registered(false).unwrap_err().contains("allow_pickle"));
        assert_eq!(registered(true).unwrap()[0].name, "procpool:map");
        assert!(functions(vec![function("procpool"), function("my procpool:map")], true, false).is_ok());
    }

    #[test]
    fn failures_rise_within_their_results() {
        use proto::FailureKind::{InvalidItem, NotEncodable, Raised, UnknownFunction, Unspecified};
        let good = vec![failure(3, Raised), failure(4, NotEncodable), failure(6, InvalidItem)];
        let offsets: Vec<u32> = failures(good, 3..7).unwrap().iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, [3, 4, 6]);
        assert!(failures(vec![failure(2, Raised)], 3..7).is_err());
        assert!(failures(vec![failure(7, Raised)], 3..7).is_err());
        assert!(failures(vec![failure(4, Raised), failure(4, Raised)], 3..7).is_err());
        assert!(failures(vec![failure(5, Raised), failure(4, Raised)], 3..7).is_err());
        assert!(failures(vec![failure(4, Unspecified)], 3..7).is_err());
        assert!(failures(vec![failure(4, UnknownFunction)], 3..7).is_err());
        let unknown = proto::ItemFailure { offset: 3, kind: 99, ..Default::default() };
        assert!(failures(vec![unknown], 3..7).is_err());
    }

    #[test]
    fn data_is_kept_whole_or_not_at_all_and_keeps_no_frame() {
        let frame = Bytes::from(vec![7; MAX_DATA_BYTES + 1]);
        for (length, expected) in [(0, 0), (MAX_DATA_BYTES, MAX_DATA_BYTES), (MAX_DATA_BYTES + 1, 0)] {
            let raised = proto::ItemFailure { data: frame.slice(..length), ..failure(0, proto::FailureKind::Raised) };
            let ItemFailure::Raised { data, message, .. } = item_failure(raised).unwrap() else { panic!("{length}") };
            assert_eq!((data.len(), message.as_str()), (expected, "m"));
            assert!(data.is_empty() || data.as_ptr() != frame.as_ptr(), "it is a copy");
        }
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let text = cut("é".repeat(100_000));
        assert!(text.len() <= MAX_TEXT_BYTES);
        assert!(text.ends_with(CUT_MARK));
    }
}
