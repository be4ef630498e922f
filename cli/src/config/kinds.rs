//! The kinds of values that settings have.

mod address;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use procpool_pool::supervisor::LimitedResource;

pub(crate) use self::address::{Addresses, TcpAddress, show_address};
use super::kind::{Form, Kind, Names};
use super::value::{Shown, Value};
use crate::quantity;

/// Longer would overflow clocks, and means "never" anyway.
const LONGEST_DURATION: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
const SIZE_UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// What the kernel can be told to limit for a worker, by the names of `setrlimit(2)`.
const RLIMITS: [(&str, LimitedResource); 5] = [
    ("as", LimitedResource::AddressSpace),
    ("core", LimitedResource::Core),
    ("data", LimitedResource::Data),
    ("fsize", LimitedResource::FileSize),
    ("nofile", LimitedResource::OpenFiles),
];

/// A duration; 0 needs no unit.
pub(crate) struct Time;

impl Kind for Time {
    type Value = Duration;
    const ZERO: Option<Self::Value> = Some(Duration::ZERO);

    fn names(&self) -> Names {
        Names::number("DURATION", "duration")
    }

    fn read(&self, value: &Value) -> Result<Duration, String> {
        let duration = match value {
            Value::Integer(0) => Duration::ZERO,
            Value::Integer(number) => {
                return Err(format!(
                    "{number} has no unit: a duration is text with a number and a unit (us, ms, s, min, h or d), such as \"{number}s\""
                ));
            }
            other => quantity::duration_or_zero(other.as_text()?)?,
        };
        if duration > LONGEST_DURATION { Err("is out of range: at most 3650d".to_owned()) } else { Ok(duration) }
    }

    fn show(&self, value: &Duration) -> Option<Shown> {
        Some(Shown::Text(show_duration(*value)))
    }
}

/// A size in bytes, up to 64 bits.
pub(crate) struct MemorySize;

impl Kind for MemorySize {
    type Value = u64;
    const ZERO: Option<Self::Value> = Some(0);

    fn names(&self) -> Names {
        Names::number("BYTES", "bytes")
    }

    fn read(&self, value: &Value) -> Result<u64, String> {
        let wrong = || "a size is a number of bytes, or a number and KiB, MiB or GiB, such as 64MiB".to_owned();
        if let Value::Integer(number) = value {
            return u64::try_from(*number).map_err(|_| wrong());
        }
        let text = value.as_text()?;
        let unit = SIZE_UNITS.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
        let (number, bytes) = unit.unwrap_or((text, 1));
        let number: u64 = number.trim_end().parse().map_err(|_| wrong())?;
        number.checked_mul(bytes).ok_or_else(wrong)
    }

    fn show(&self, value: &u64) -> Option<Shown> {
        Some(match show_bytes(*value) {
            text if text.bytes().all(|byte| byte.is_ascii_digit()) => Shown::Number(*value),
            text => Shown::Text(text),
        })
    }
}

/// A size in bytes, up to 32 bits: of a message or a queue.
pub(crate) struct MessageSize;

impl Kind for MessageSize {
    type Value = u32;
    const ZERO: Option<Self::Value> = Some(0);

    fn names(&self) -> Names {
        MemorySize.names()
    }

    fn read(&self, value: &Value) -> Result<u32, String> {
        let bytes = MemorySize.read(value)?;
        u32::try_from(bytes).map_err(|_| format!("{} is too much: less than 4GiB", show_bytes(bytes)))
    }

    fn show(&self, value: &u32) -> Option<Shown> {
        MemorySize.show(&u64::from(*value))
    }
}

/// A number of the first, at most the second.
pub(crate) struct Count(pub(crate) &'static str, pub(crate) u32);

impl Kind for Count {
    type Value = u32;
    const ZERO: Option<Self::Value> = Some(0);

    fn names(&self) -> Names {
        Names::number("N", self.0)
    }

    fn read(&self, value: &Value) -> Result<u32, String> {
        let out_of_range = |number: &dyn std::fmt::Display| format!("{number} is no count from 0 to {}", u32::MAX);
        let count = match value {
            Value::Integer(number) => u32::try_from(*number).map_err(|_| out_of_range(number))?,
            other => {
                let text = other.as_text()?;
                text.parse().map_err(|_| out_of_range(&format!("{text:?}")))?
            }
        };
        if count > self.1 { Err(format!("{count} is too many: at most {}", self.1)) } else { Ok(count) }
    }

    fn show(&self, value: &u32) -> Option<Shown> {
        Some(Shown::Number((*value).into()))
    }
}

/// A count that is never 0.
pub(crate) struct Positive(pub(crate) Count);

impl Kind for Positive {
    type Value = NonZeroU32;

    fn names(&self) -> Names {
        self.0.names()
    }

    fn read(&self, value: &Value) -> Result<NonZeroU32, String> {
        NonZeroU32::new(self.0.read(value)?).ok_or_else(|| "must be more than 0".to_owned())
    }

    fn show(&self, value: &NonZeroU32) -> Option<Shown> {
        self.0.show(&value.get())
    }
}

/// A number that is `None` if it is 0.
pub(crate) struct Optional<K>(pub(crate) K);

impl<K: Kind> Kind for Optional<K> {
    type Value = Option<K::Value>;
    const ZERO: Option<Self::Value> = Some(None);

    fn names(&self) -> Names {
        self.0.names()
    }

    fn read(&self, value: &Value) -> Result<Self::Value, String> {
        Ok(Some(self.0.read(value)?).filter(|value| K::ZERO.as_ref() != Some(value)))
    }

    fn show(&self, value: &Self::Value) -> Option<Shown> {
        self.0.show(value.as_ref().or(K::ZERO.as_ref())?)
    }
}

/// As [`Optional`], for a count.
pub(crate) struct OptionalCount(pub(crate) Count);

impl Kind for OptionalCount {
    type Value = Option<NonZeroU32>;
    const ZERO: Option<Self::Value> = Some(None);

    fn names(&self) -> Names {
        self.0.names()
    }

    fn read(&self, value: &Value) -> Result<Self::Value, String> {
        Ok(NonZeroU32::new(self.0.read(value)?))
    }

    fn show(&self, value: &Self::Value) -> Option<Shown> {
        self.0.show(&value.map_or(0, NonZeroU32::get))
    }
}

/// A list of texts, separated by commas in a variable.
pub(crate) struct Texts;

impl Kind for Texts {
    type Value = Vec<String>;

    fn names(&self) -> Names {
        Names::list("NAME", "list of names")
    }

    fn read(&self, value: &Value) -> Result<Self::Value, String> {
        value.as_list()
    }

    fn show(&self, value: &Self::Value) -> Option<Shown> {
        Some(Shown::List(value.clone()))
    }
}

/// A program and its arguments.
pub(crate) struct Program;

impl Kind for Program {
    type Value = Vec<OsString>;

    fn names(&self) -> Names {
        Names { has_variable: false, ..Names::list("COMMAND", "list of texts") }
    }

    fn read(&self, value: &Value) -> Result<Self::Value, String> {
        if let Value::Text(_) = value {
            return Err(r#"must be a list of texts, such as ["python", "worker.py"]"#.to_owned());
        }
        Ok(value.as_list()?.into_iter().map(OsString::from).collect())
    }

    fn show(&self, value: &Self::Value) -> Option<Shown> {
        Some(Shown::List(value.iter().map(|word| word.to_string_lossy().into_owned()).collect()))
    }
}

/// Variables of the environment. Their values are secrets.
pub(crate) struct Variables;

impl Kind for Variables {
    type Value = Vec<(String, String)>;

    fn names(&self) -> Names {
        Names { has_variable: false, ..Names::list("NAME=VALUE", "table of texts") }
    }

    fn read(&self, value: &Value) -> Result<Self::Value, String> {
        let variables = match value {
            Value::Table(table) => table.clone(),
            Value::List(list) => pairs(list, "a variable is NAME=VALUE")?,
            _ => return Err(r#"must be a table of texts, such as { MODEL = "large" }"#.to_owned()),
        };
        let is_wrong =
            |(name, value): &&(String, String)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0');
        match variables.iter().find(is_wrong) {
            Some((name, _)) => Err(format!(
                "{name:?} is no variable: a name is not empty and has no =, and neither name nor value has a zero byte"
            )),
            None => Ok(variables),
        }
    }

    fn show(&self, value: &Self::Value) -> Option<Shown> {
        Some(Shown::Redacted(value.iter().map(|(name, _)| name.clone()).collect()))
    }
}

/// The limits that the kernel keeps, by resource.
pub(crate) struct Rlimits;

impl Kind for Rlimits {
    type Value = Vec<(LimitedResource, u64)>;

    fn names(&self) -> Names {
        Names::list("NAME=NUMBER", "table of texts")
    }

    fn read(&self, value: &Value) -> Result<Self::Value, String> {
        let entries = match value {
            Value::Table(table) => table.clone(),
            Value::List(_) | Value::Text(_) => pairs(&value.as_list()?, "a limit is NAME=NUMBER, such as as=2GiB")?,
            _ => return Err(r#"must be a table of texts, such as { as = "2GiB", nofile = "1024" }"#.to_owned()),
        };
        let limit = |(name, number): (String, String)| {
            let known = RLIMITS.iter().find(|(known, _)| *known == name);
            let (_, resource) = known.ok_or_else(|| {
                let names = RLIMITS.map(|(name, _)| name).join(", ");
                format!("{name:?} is no limit that can be set: only {names}")
            })?;
            let number = MemorySize.read(&Value::Text(number)).map_err(|problem| format!("{name}: {problem}"))?;
            Ok((*resource, number))
        };
        entries.into_iter().map(limit).collect()
    }

    fn show(&self, value: &Self::Value) -> Option<Shown> {
        let name = |resource| RLIMITS.iter().find(|(_, known)| *known == resource).map_or("", |(name, _)| name);
        Some(Shown::Table(
            value.iter().map(|&(resource, limit)| (name(resource).to_owned(), show_bytes(limit))).collect(),
        ))
    }
}

/// A folder; none by default.
pub(crate) struct Folder;

impl Kind for Folder {
    type Value = Option<PathBuf>;

    fn names(&self) -> Names {
        Names::one("DIRECTORY", "path")
    }

    fn read(&self, value: &Value) -> Result<Self::Value, String> {
        match value.as_text()? {
            "" => Err("must not be empty".to_owned()),
            path => Ok(Some(path.into())),
        }
    }

    fn show(&self, value: &Self::Value) -> Option<Shown> {
        Some(Shown::Text(value.as_ref()?.display().to_string()))
    }
}

/// One of a few words, and what `--help` calls it.
pub(crate) struct Word<V: 'static>(pub(crate) &'static str, pub(crate) &'static [(&'static str, V)]);

impl<V: Copy + PartialEq + Send + Sync> Kind for Word<V> {
    type Value = V;

    fn names(&self) -> Names {
        Names::one(self.0, "word")
    }

    fn read(&self, value: &Value) -> Result<V, String> {
        let text = value.as_text()?;
        let known = self.1.iter().find(|(word, _)| *word == text);
        known.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<&str> = self.1.iter().map(|(word, _)| *word).collect();
            format!("{text:?} is none of {}", words.join(", "))
        })
    }

    fn show(&self, value: &V) -> Option<Shown> {
        self.1.iter().find(|(_, known)| known == value).map(|(word, _)| Shown::Text((*word).to_owned()))
    }
}

/// On or off.
pub(crate) struct Switch;

impl Kind for Switch {
    type Value = bool;

    fn names(&self) -> Names {
        Names { form: Form::Switch, ..Names::one("BOOLEAN", "boolean") }
    }

    fn read(&self, value: &Value) -> Result<bool, String> {
        if let Value::Boolean(is_on) = value {
            return Ok(*is_on);
        }
        match value.as_text()? {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            text => Err(format!("{text:?} is neither true nor false")),
        }
    }

    fn show(&self, value: &bool) -> Option<Shown> {
        Some(Shown::Boolean(*value))
    }
}

/// Splits entries of the form NAME=VALUE.
fn pairs(list: &[String], form: &str) -> Result<Vec<(String, String)>, String> {
    let split = |entry: &String| {
        let (name, value) = entry.split_once('=').ok_or(form)?;
        Ok((name.to_owned(), value.to_owned()))
    };
    list.iter().map(split).collect()
}

/// Writes a duration as [`Time`] reads it.
fn show_duration(duration: Duration) -> String {
    const UNITS: [(u128, &str); 5] =
        [(86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s"), (1_000, "ms")];
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if !nanos.is_multiple_of(1000) {
        return format!("{}.{:03}us", nanos / 1000, nanos % 1000);
    }
    let micros = nanos / 1000;
    match UNITS.iter().find(|(unit, _)| micros.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", micros / unit),
        None => format!("{micros}us"),
    }
}

/// Writes a size as [`MemorySize`] reads it.
fn show_bytes(bytes: u64) -> String {
    match SIZE_UNITS.iter().rev().find(|(_, unit)| bytes != 0 && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}
