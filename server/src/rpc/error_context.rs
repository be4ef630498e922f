//! What errors say of the call that they belong to.

use procpool_items::ItemKind;
use procpool_pool::JobNumber;

/// A method of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Apply,
    Map,
    StarMap,
    IMap,
    IMapStream,
}

impl Method {
    /// Returns its name in the API.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Map => "Map",
            Self::StarMap => "StarMap",
            Self::IMap => "IMap",
            Self::IMapStream => "IMapStream",
        }
    }
}

/// What errors say of the call that they belong to.
#[derive(Debug, Clone)]
pub(crate) struct ErrorContext {
    /// The method that was called.
    pub(crate) method: Method,
    /// The name of the function.
    pub(crate) function: String,
    /// The caller's name for the call; may be empty.
    pub(crate) request_id: String,
    /// The number of its job, as soon as there is one.
    pub(crate) job: JobNumber,
    /// What the items are.
    pub(crate) kind: ItemKind,
    /// The path of the common argument in the request, if there is one.
    pub(crate) common_field: Option<String>,
}

impl ErrorContext {
    /// Returns the path of an item in the request.
    pub(crate) fn item_field(&self, index: u64) -> String {
        let list = list_field(self.kind);
        // The arguments of Apply are one item.
        if self.method == Method::Apply { list.to_owned() } else { format!("{list}[{index}]") }
    }
}

/// Returns the name of the field that holds items of this kind.
pub(crate) fn list_field(kind: ItemKind) -> &'static str {
    match kind {
        ItemKind::Values => "values",
        ItemKind::Blobs => "blobs",
    }
}

/// Returns the name of the field that holds a common argument of this kind.
pub(crate) fn common_field(kind: ItemKind) -> &'static str {
    match kind {
        ItemKind::Values => "common_value",
        ItemKind::Blobs => "common_blob",
    }
}
