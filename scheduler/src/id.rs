//! The names of things. All are given out in rising order and never used twice.

use std::fmt;

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
    /// A function, as far as its run time is concerned.
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
