//! What a setting is: where it is kept, how it is read, shown and described.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use procpool_pool::supervisor::LimitedResource;
use procpool_server::ListenAddress;

use super::value::{
    Value, parse_listen_address, parse_tcp_address, show_address, show_bytes, show_duration, show_rlimits,
};
use super::words::{LogCalls, LogFormat, LogLevel, OperatorsArg};

/// One setting of `T`.
pub(crate) struct Setting<T: 'static> {
    /// Its name in the file. That of the flag and of the variable follow from it.
    pub(crate) key: &'static str,
    pub(crate) field: Field<T>,
    pub(crate) zero: Zero,
    /// The default, where the value says too little.
    pub(crate) default: Option<&'static str>,
    pub(crate) about: &'static str,
}

/// Where a setting is kept, and so what it can be.
pub(crate) enum Field<T: 'static> {
    Duration(fn(&mut T) -> &mut Duration),
    /// Off if 0.
    OptionalDuration(fn(&mut T) -> &mut Option<Duration>),
    Bytes(fn(&mut T) -> &mut u32),
    /// Off if 0.
    OptionalSize(fn(&mut T) -> &mut Option<u64>),
    Rlimits(fn(&mut T) -> &mut Vec<(LimitedResource, u64)>),
    /// Of what, at most how many.
    Count(&'static str, u32, fn(&mut T) -> &mut u32),
    PositiveCount(&'static str, u32, fn(&mut T) -> &mut NonZeroU32),
    /// Off if 0.
    OptionalCount(&'static str, fn(&mut T) -> &mut Option<NonZeroU32>),
    Addresses(fn(&mut T) -> &mut Vec<ListenAddress>),
    OptionalAddress(fn(&mut T) -> &mut Option<SocketAddr>),
    Names(fn(&mut T) -> &mut Vec<String>),
    Command(fn(&mut T) -> &mut Vec<OsString>),
    /// Their values are secrets.
    Variables(fn(&mut T) -> &mut Vec<(String, String)>),
    Directory(fn(&mut T) -> &mut Option<PathBuf>),
    LogFormat(fn(&mut T) -> &mut LogFormat),
    LogLevel(fn(&mut T) -> &mut LogLevel),
    LogCalls(fn(&mut T) -> &mut LogCalls),
    Operators(fn(&mut T) -> &mut OperatorsArg),
}

/// What 0 means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zero {
    Means(&'static str),
    /// It is an error.
    Error,
    /// It is no number.
    NoNumber,
}

pub(super) const fn setting<T>(key: &'static str, field: Field<T>, zero: Zero, about: &'static str) -> Setting<T> {
    Setting { key, field, zero, default: None, about }
}

impl<T: Clone + Default> Setting<T> {
    /// Returns the name of the flag, without the dashes.
    pub(crate) fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// Returns the name of the environment variable; `None` for what does not fit into one.
    pub(crate) fn variable(&self) -> Option<String> {
        let fits = !matches!(self.field, Field::Command(_) | Field::Variables(_));
        fits.then(|| format!("PROCPOOL_{}", self.key.to_ascii_uppercase()))
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(
            self.field,
            Field::Addresses(_) | Field::Names(_) | Field::Command(_) | Field::Variables(_) | Field::Rlimits(_)
        )
    }

    /// Returns what the value is called in `--help`.
    pub(crate) fn value_name(&self) -> &'static str {
        match self.field {
            Field::Duration(_) | Field::OptionalDuration(_) => "DURATION",
            Field::Bytes(_) | Field::OptionalSize(_) => "BYTES",
            Field::Rlimits(_) => "NAME=NUMBER",
            Field::Count(..) | Field::PositiveCount(..) | Field::OptionalCount(..) => "N",
            Field::Addresses(_) | Field::OptionalAddress(_) => "ADDRESS",
            Field::Names(_) => "NAME",
            Field::Command(_) => "COMMAND",
            Field::Variables(_) => "NAME=VALUE",
            Field::Directory(_) => "DIRECTORY",
            Field::LogFormat(_) => "FORMAT",
            Field::LogLevel(_) => "LEVEL",
            Field::LogCalls(_) => "WHICH",
            Field::Operators(_) => "WHO",
        }
    }

    pub(crate) fn unit(&self) -> &'static str {
        match self.field {
            Field::Duration(_) | Field::OptionalDuration(_) => "duration",
            Field::Bytes(_) | Field::OptionalSize(_) => "bytes",
            Field::Count(unit, ..) | Field::PositiveCount(unit, ..) | Field::OptionalCount(unit, _) => unit,
            Field::Addresses(_) => "list of addresses",
            Field::OptionalAddress(_) => "address",
            Field::Names(_) => "list of names",
            Field::Command(_) => "list of texts",
            Field::Variables(_) | Field::Rlimits(_) => "table of texts",
            Field::Directory(_) => "path",
            Field::LogFormat(_) | Field::LogLevel(_) | Field::LogCalls(_) | Field::Operators(_) => "word",
        }
    }

    /// Returns the default in words.
    pub(crate) fn default_text(&self) -> String {
        match (self.default, &self.field, self.zero) {
            (Some(words), ..) => words.to_owned(),
            (None, Field::OptionalDuration(get), Zero::Means(off)) if get(&mut T::default()).is_none() => {
                off.to_owned()
            }
            (None, Field::OptionalSize(get), Zero::Means(off)) if get(&mut T::default()).is_none() => off.to_owned(),
            (None, Field::OptionalCount(_, get), Zero::Means(off)) if get(&mut T::default()).is_none() => {
                off.to_owned()
            }
            _ => match self.show(&T::default()) {
                Some(Shown::Text(text)) => text,
                Some(Shown::Number(number)) => number.to_string(),
                Some(Shown::List(list)) => list.join(", "),
                Some(Shown::Redacted(_) | Shown::Table(_)) | None => String::new(),
            },
        }
    }

    /// Returns the meaning of 0 in words; empty for what is no number.
    pub(crate) fn zero_text(&self) -> &'static str {
        match self.zero {
            Zero::Means(meaning) => meaning,
            Zero::Error => "an error",
            Zero::NoNumber => "",
        }
    }

    /// Sets it.
    ///
    /// # Errors
    ///
    /// What is wrong with the value, and what would be right.
    pub(crate) fn set(&self, target: &mut T, value: &Value) -> Result<(), String> {
        match &self.field {
            Field::Duration(field) => *field(target) = self.checked(value.as_duration()?)?,
            Field::OptionalDuration(field) => {
                *field(target) = Some(self.checked(value.as_duration()?)?).filter(|duration| !duration.is_zero());
            }
            Field::OptionalSize(field) => *field(target) = Some(value.as_size()?).filter(|bytes| *bytes > 0),
            Field::Rlimits(field) => *field(target) = value.as_rlimits()?,
            Field::Bytes(field) => *field(target) = self.checked(value.as_bytes()?)?,
            Field::Count(_, most, field) => *field(target) = at_most(self.checked(value.as_count()?)?, *most)?,
            Field::PositiveCount(_, most, field) => {
                let count = NonZeroU32::new(at_most(value.as_count()?, *most)?);
                *field(target) = count.ok_or("must be more than 0")?;
            }
            Field::OptionalCount(_, field) => *field(target) = NonZeroU32::new(value.as_count()?),
            Field::Addresses(field) => {
                let list = value.as_list()?;
                *field(target) = list.iter().map(|text| parse_listen_address(text)).collect::<Result<_, _>>()?;
            }
            Field::OptionalAddress(field) => {
                let address = parse_tcp_address(value.as_text()?);
                *field(target) = Some(address.ok_or("not an address: use IP:PORT or localhost:PORT")?);
            }
            Field::Names(field) => *field(target) = value.as_list()?,
            Field::Command(field) => match value {
                Value::Text(_) => return Err(r#"must be a list of texts, such as ["python", "worker.py"]"#.to_owned()),
                other => *field(target) = other.as_list()?.into_iter().map(OsString::from).collect(),
            },
            Field::Variables(field) => *field(target) = value.as_variables()?,
            Field::Directory(field) => match value.as_text()? {
                "" => return Err("must not be empty".to_owned()),
                path => *field(target) = Some(PathBuf::from(path)),
            },
            Field::LogFormat(field) => *field(target) = choice(value)?,
            Field::LogLevel(field) => *field(target) = choice(value)?,
            Field::LogCalls(field) => *field(target) = choice(value)?,
            Field::Operators(field) => *field(target) = choice(value)?,
        }
        Ok(())
    }

    fn checked<V: Default + PartialEq>(&self, value: V) -> Result<V, String> {
        if self.zero == Zero::Error && value == V::default() {
            Err("must be more than 0".to_owned())
        } else {
            Ok(value)
        }
    }

    /// Returns it as the file would have it; `None` if it is not set.
    pub(crate) fn show(&self, target: &T) -> Option<Shown> {
        let mut target = target.clone();
        let target = &mut target;
        Some(match &self.field {
            Field::Duration(field) => Shown::Text(show_duration(*field(target))),
            Field::OptionalDuration(field) => Shown::Text(show_duration(field(target).unwrap_or_default())),
            Field::Bytes(field) => show_size((*field(target)).into()),
            Field::OptionalSize(field) => show_size(field(target).unwrap_or(0)),
            Field::Rlimits(field) => Shown::Table(show_rlimits(field(target))),
            Field::Count(_, _, field) => Shown::Number((*field(target)).into()),
            Field::PositiveCount(_, _, field) => Shown::Number(field(target).get().into()),
            Field::OptionalCount(_, field) => Shown::Number(field(target).map_or(0, NonZeroU32::get).into()),
            Field::Addresses(field) => Shown::List(field(target).iter().map(show_address).collect()),
            Field::OptionalAddress(field) => Shown::Text(field(target).as_ref()?.to_string()),
            Field::Names(field) => Shown::List(field(target).clone()),
            Field::Command(field) => {
                Shown::List(field(target).iter().map(|word| word.to_string_lossy().into_owned()).collect())
            }
            Field::Variables(field) => Shown::Redacted(field(target).iter().map(|(name, _)| name.clone()).collect()),
            Field::Directory(field) => Shown::Text(field(target).as_ref()?.display().to_string()),
            Field::LogFormat(field) => Shown::Text(word(field(target))),
            Field::LogLevel(field) => Shown::Text(word(field(target))),
            Field::LogCalls(field) => Shown::Text(word(field(target))),
            Field::Operators(field) => Shown::Text(word(field(target))),
        })
    }
}

/// A value, to be shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Text(String),
    Number(u64),
    List(Vec<String>),
    Table(Vec<(String, String)>),
    /// The names of variables whose values are nobody's business.
    Redacted(Vec<String>),
}

fn show_size(bytes: u64) -> Shown {
    match show_bytes(bytes) {
        text if text.bytes().all(|byte| byte.is_ascii_digit()) => Shown::Number(bytes),
        text => Shown::Text(text),
    }
}

fn at_most(count: u32, most: u32) -> Result<u32, String> {
    if count > most { Err(format!("{count} is too many: at most {most}")) } else { Ok(count) }
}

fn choice<V: ValueEnum>(value: &Value) -> Result<V, String> {
    let text = value.as_text()?;
    V::from_str(text, false).map_err(|_| {
        let words: Vec<String> = V::value_variants().iter().map(|variant| word(variant)).collect();
        format!("{text:?} is none of {}", words.join(", "))
    })
}

fn word<V: ValueEnum>(value: &V) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
