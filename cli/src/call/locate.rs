//! From positions among the items that were sent to indexes in the list that was given. They differ when only a
//! selection is sent.

use procpool_client::{CallError, ItemError};

use crate::selection::Selection;

/// Replaces the position of a failed item by its index in the list.
pub(super) fn locate_item(mut error: ItemError, selection: &Selection) -> ItemError {
    error.index = selection.nth(error.index).unwrap_or(error.index);
    error
}

/// Replaces the positions in an error by indexes in the list.
pub(super) fn locate(error: CallError, selection: &Selection) -> CallError {
    let index_of = |position| selection.nth(position).unwrap_or(position);
    match error {
        CallError::ItemFailed(error) => CallError::ItemFailed(Box::new(locate_item(*error, selection))),
        CallError::Encode { index, source } => CallError::Encode { index: index_of(index), source },
        CallError::Decode { index, source } => CallError::Decode { index: index_of(index), source },
        CallError::InvalidArgument { mut message, mut violations } => {
            for violation in &mut violations {
                let Some((list, position)) = position_of(&violation.field) else { continue };
                let field = format!("{list}[{}]", index_of(position));
                message = message.replace(&violation.field, &field);
                violation.field = field;
            }
            CallError::InvalidArgument { message, violations }
        }
        error => error,
    }
}

/// Returns the parts of `values[17]`.
fn position_of(field: &str) -> Option<(&str, u64)> {
    let (list, position) = field.strip_suffix(']')?.split_once('[')?;
    Some((list, position.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use procpool_client::{FieldViolation, ItemErrorKind};

    use super::*;

    #[test]
    fn items_are_named_as_in_the_list() {
        let selection = "3,8-10".parse().unwrap();
        let violation = |field: &str| FieldViolation { field: field.to_owned(), description: String::new() };
        let failed = ItemError { index: 1, kind: ItemErrorKind::InvalidItem, message: "words".to_owned() };
        for (error, expected) in [
            (CallError::ItemFailed(Box::new(failed)), "item 8: words"),
            (CallError::Encode { index: 3, source: "words".into() }, "item 10 cannot be sent: words"),
            (
                CallError::Decode { index: 0, source: "words".into() },
                "the result of item 3 is not of the expected type: words",
            ),
            (
                CallError::InvalidArgument {
                    message: "values[2] is no list".to_owned(),
                    violations: vec![violation("values[2]")],
                },
                "values[9] is no list",
            ),
            (
                CallError::InvalidArgument { message: "no list".to_owned(), violations: vec![violation("blobs[0]")] },
                "blobs[3]: no list",
            ),
            (
                CallError::InvalidArgument { message: "too long".to_owned(), violations: vec![violation("function")] },
                "function: too long",
            ),
        ] {
            assert_eq!(locate(error, &selection).to_string(), expected);
        }
    }
}
