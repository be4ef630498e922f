//! The names of things. All are given out in rising order and never used twice.

use std::fmt;
use std::sync::Arc;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

id! {
    /// One call being served.
    JobId(u64)
}
id! {
    /// One run of consecutive items handed to a worker.
    ChunkId(u64)
}
id! {
    /// A function: who can run it, and how long it takes.
    FunctionId(u32)
}
id! {
    /// The place that a worker occupies. Slots stay, workers come and go.
    SlotId(u32)
}

/// One worker process: the slot that it occupies, and which of all the pool's workers it is.
///
/// The generation fences: what is said of a worker that has been replaced changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId {
    /// Where it works.
    pub slot: SlotId,
    /// Its number among all workers that the pool ever started, from 1.
    pub generation: u64,
}

impl fmt::Display for WorkerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.slot, self.generation)
    }
}

/// The functions that a worker registered. Workers that are alike share it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FunctionSet(Arc<[FunctionId]>);

impl FunctionSet {
    /// Tells whether a function is one of them.
    pub fn has(&self, function: FunctionId) -> bool {
        self.0.binary_search(&function).is_ok()
    }
}

impl FromIterator<FunctionId> for FunctionSet {
    fn from_iter<I: IntoIterator<Item = FunctionId>>(functions: I) -> Self {
        let mut functions: Vec<FunctionId> = functions.into_iter().collect();
        functions.sort_unstable();
        functions.dedup();
        Self(functions.into())
    }
}
