//! The functions that workers registered.

use std::collections::BTreeMap;

/// How the names of functions begin that only procpool's own SDKs register. They run functions that clients send.
pub const RESERVED_PREFIX: &str = "procpool:";

/// The functions that the workers registered, by name.
pub type FunctionTable = BTreeMap<String, FunctionInfo>;

/// A function that the workers registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionInfo {
    /// The name to call it by.
    pub name: String,
    /// Its parameters as its language writes them; may be empty.
    pub signature: String,
    /// What it does; may be empty.
    pub doc: String,
    /// A request as JSON, for people to paste; may be empty.
    pub example: String,
    /// It may be executed more than once for one item.
    pub idempotent: bool,
    /// Its worker knows what a common argument is.
    pub takes_common: bool,
}

/// Returns the names most like this one, best first.
pub fn nearest_names<'a>(candidates: impl IntoIterator<Item = &'a String>, name: &str) -> Vec<String> {
    let mut scored: Vec<(f64, &String)> =
        candidates.into_iter().map(|candidate| (strsim::jaro_winkler(candidate, name), candidate)).collect();
    scored.retain(|&(score, _)| score > 0.7);
    scored.sort_by(|left, right| right.0.total_cmp(&left.0));
    scored.into_iter().take(3).map(|(_, candidate)| candidate.clone()).collect()
}
