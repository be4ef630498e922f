//! How the messages that `build.rs` derives `Serialize` for become JSON: enums as words, durations as seconds.

use prost_types::Duration;
use serde::{Serialize, Serializer};

/// Serializes the number of an enum as its word. A number that this version does not know is `unknown`.
pub(crate) fn word<E: TryFrom<i32> + Default + Serialize, S: Serializer>(
    number: &i32,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    E::try_from(*number).unwrap_or_default().serialize(serializer)
}

/// Serializes a duration as a number of seconds.
pub(crate) fn seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    let duration = duration.and_then(|duration| std::time::Duration::try_from(duration).ok());
    duration.map(|duration| duration.as_secs_f64()).serialize(serializer)
}

/// Serializes a limit for which 0 stands for none.
pub(crate) fn zero_as_null<S: Serializer>(limit: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    Some(*limit).filter(|&limit| limit > 0).serialize(serializer)
}
