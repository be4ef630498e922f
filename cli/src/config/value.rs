//! Values of settings: as text or TOML has them → as they are used, and back.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use procpool_pool::supervisor::LimitedResource;
use procpool_server::ListenAddress;

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

/// A value as its source has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A flag, a variable, or a string in the file.
    Text(String),
    /// An integer in the file.
    Integer(i64),
    /// A flag that is given more than once, or an array of strings in the file.
    List(Vec<String>),
    /// A table of strings in the file.
    Table(Vec<(String, String)>),
    /// What no setting can be; the text says what it is.
    Other(&'static str),
}

impl Value {
    pub(crate) fn as_text(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Integer(number) => Err(format!("{number} must be text: write it in quotes")),
            Self::List(_) => Err("must be one text, not a list".to_owned()),
            Self::Table(_) => Err("must be text, not a table".to_owned()),
            Self::Other(what) => Err(format!("must be text, not {what}")),
        }
    }

    /// Returns the entries of a list. In a variable, commas separate them.
    pub(crate) fn as_list(&self) -> Result<Vec<String>, String> {
        match self {
            Self::List(list) => Ok(list.clone()),
            Self::Text(text) => Ok(text.split(',').map(|entry| entry.trim().to_owned()).collect()),
            Self::Integer(_) => Err("must be a list of texts, not a number".to_owned()),
            Self::Table(_) => Err("must be a list of texts, not a table".to_owned()),
            Self::Other(what) => Err(format!("must be a list of texts, not {what}")),
        }
    }

    /// Returns the names and values of variables.
    pub(crate) fn as_variables(&self) -> Result<Vec<(String, String)>, String> {
        let variables = match self {
            Self::Table(table) => table.clone(),
            Self::List(list) => list
                .iter()
                .map(|entry| {
                    let (name, value) = entry.split_once('=').ok_or("a variable is NAME=VALUE")?;
                    Ok((name.to_owned(), value.to_owned()))
                })
                .collect::<Result<_, String>>()?,
            _ => return Err(r#"must be a table of texts, such as { MODEL = "large" }"#.to_owned()),
        };
        match variables
            .iter()
            .find(|(name, value)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0'))
        {
            Some((name, _)) => Err(format!(
                "{name:?} is no variable: a name is not empty and has no =, and neither name nor value has a zero byte"
            )),
            None => Ok(variables),
        }
    }

    /// Returns a duration; `0` needs no unit.
    pub(crate) fn as_duration(&self) -> Result<Duration, String> {
        let parsed = match self {
            Self::Integer(0) => Ok(Duration::ZERO),
            Self::Integer(number) => Err(format!(
                "{number} has no unit: a duration is text with a number and a unit (us, ms, s, min, h or d), such as \"{number}s\""
            )),
            other => quantity::duration_or_zero(other.as_text()?),
        };
        match parsed? {
            duration if duration > LONGEST_DURATION => Err("is out of range: at most 3650d".to_owned()),
            duration => Ok(duration),
        }
    }

    /// Returns a count.
    pub(crate) fn as_count(&self) -> Result<u32, String> {
        let out_of_range = |number: &dyn std::fmt::Display| format!("{number} is no count from 0 to {}", u32::MAX);
        match self {
            Self::Integer(number) => u32::try_from(*number).map_err(|_| out_of_range(number)),
            other => {
                let text = other.as_text()?;
                text.parse().map_err(|_| out_of_range(&format!("{text:?}")))
            }
        }
    }

    /// Returns a size in bytes that a message or a queue can have.
    pub(crate) fn as_bytes(&self) -> Result<u32, String> {
        let bytes = self.as_size()?;
        u32::try_from(bytes).map_err(|_| format!("{} is too much: less than 4GiB", show_bytes(bytes)))
    }

    /// Returns a size in bytes that memory can have.
    pub(crate) fn as_size(&self) -> Result<u64, String> {
        let wrong = || "a size is a number of bytes, or a number and KiB, MiB or GiB, such as 64MiB".to_owned();
        match self {
            Self::Integer(number) => u64::try_from(*number).map_err(|_| wrong()),
            other => {
                let text = other.as_text()?;
                let unit = SIZE_UNITS.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
                let (number, bytes) = unit.unwrap_or((text, 1));
                let number: u64 = number.trim_end().parse().map_err(|_| wrong())?;
                number.checked_mul(bytes).ok_or_else(wrong)
            }
        }
    }

    /// Returns the limits that the kernel keeps, by resource.
    pub(crate) fn as_rlimits(&self) -> Result<Vec<(LimitedResource, u64)>, String> {
        let entries = match self {
            Self::Table(table) => table.clone(),
            Self::List(_) | Self::Text(_) => {
                let list = self.as_list()?;
                let entries =
                    list.iter().map(|entry| entry.split_once('=').ok_or("a limit is NAME=NUMBER, such as as=2GiB"));
                entries
                    .map(|entry| entry.map(|(name, number)| (name.to_owned(), number.to_owned())))
                    .collect::<Result<_, _>>()?
            }
            _ => return Err(r#"must be a table of texts, such as { as = "2GiB", nofile = "1024" }"#.to_owned()),
        };
        let limit = |(name, number): (String, String)| {
            let known = RLIMITS.iter().find(|(known, _)| *known == name);
            let (_, resource) = known.ok_or_else(|| {
                let names = RLIMITS.map(|(name, _)| name).join(", ");
                format!("{name:?} is no limit that can be set: only {names}")
            })?;
            let number = Self::Text(number).as_size().map_err(|problem| format!("{name}: {problem}"))?;
            Ok((*resource, number))
        };
        entries.into_iter().map(limit).collect()
    }
}

/// Writes a duration as [`Value::as_duration`] reads it.
pub(crate) fn show_duration(duration: Duration) -> String {
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

/// Writes a size as [`Value::as_bytes`] reads it.
pub(crate) fn show_bytes(bytes: u64) -> String {
    match SIZE_UNITS.iter().rev().find(|(_, unit)| bytes != 0 && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// Writes limits as [`Value::as_rlimits`] reads them.
pub(crate) fn show_rlimits(limits: &[(LimitedResource, u64)]) -> Vec<(String, String)> {
    let name = |resource| RLIMITS.iter().find(|(_, known)| *known == resource).map_or("", |(name, _)| name);
    limits.iter().map(|&(resource, limit)| (name(resource).to_owned(), show_bytes(limit))).collect()
}

/// Writes an address as [`parse_listen_address`] reads it.
pub(crate) fn show_address(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(address) => address.to_string(),
        ListenAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

pub(crate) fn parse_listen_address(text: &str) -> Result<ListenAddress, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return if path.is_empty() {
            Err("the path is empty".to_owned())
        } else {
            Ok(ListenAddress::Unix(path.into()))
        };
    }
    match parse_tcp_address(text) {
        Some(address) => Ok(ListenAddress::Tcp(address)),
        None => Err("not an address: use IP:PORT, localhost:PORT or unix:PATH".to_owned()),
    }
}

/// Parses an address of this machine. Other names could be any machine's, and more than one address.
pub(crate) fn parse_tcp_address(text: &str) -> Option<SocketAddr> {
    let address = text.strip_prefix("http://").unwrap_or(text);
    match address.strip_prefix("localhost:") {
        Some(port) => Some((Ipv4Addr::LOCALHOST, port.parse().ok()?).into()),
        None => address.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(text("30s").as_duration(), Ok(Duration::from_secs(30)));
        assert_eq!(text("0").as_duration(), Ok(Duration::ZERO));
        assert_eq!(Value::Integer(0).as_duration(), Ok(Duration::ZERO));
        assert_eq!(text("10000d").as_duration(), Err("is out of range: at most 3650d".to_owned()));
        let problem = Value::Integer(30).as_duration().unwrap_err();
        assert!(problem.starts_with("30 has no unit: ") && problem.ends_with("\"30s\""), "{problem}");
        assert!(text("30").as_duration().unwrap_err().contains("a number and a unit"));
        assert!(Value::Other("a boolean").as_duration().unwrap_err().contains("a boolean"));
        for duration in ["0s", "250us", "1500ms", "90s", "2min", "36h", "2d", "0.500us"] {
            assert_eq!(show_duration(text(duration).as_duration().unwrap()), duration);
        }
    }

    #[test]
    fn sizes_are_bytes_or_have_a_binary_unit() {
        assert_eq!(text("64MiB").as_bytes(), Ok(64 << 20));
        assert_eq!(text("64 KiB").as_bytes(), Ok(64 << 10));
        assert_eq!(text("1000").as_bytes(), Ok(1000));
        assert_eq!(Value::Integer(1000).as_bytes(), Ok(1000));
        for wrong in
            ["64MB", "64M", "-1", "", "MiB", "1.5MiB", "4GiB", "99999999999999999999GiB", "18446744073709551615KiB"]
        {
            assert!(text(wrong).as_bytes().is_err(), "{wrong:?}");
        }
        assert!(Value::Integer(-1).as_bytes().is_err());
        for size in ["0", "1000", "64KiB", "3MiB", "1GiB", "1025KiB"] {
            assert_eq!(show_bytes(text(size).as_bytes().unwrap().into()), size);
        }
    }

    #[test]
    fn limits_of_the_kernel_have_its_names() {
        let expected = Ok(vec![(LimitedResource::AddressSpace, 2 << 30), (LimitedResource::OpenFiles, 1024)]);
        assert_eq!(text("as=2GiB, nofile=1024").as_rlimits(), expected);
        let table = Value::Table(show_rlimits(&expected.clone().unwrap()));
        assert_eq!(table.as_rlimits(), expected);
        assert!(text("nproc=1").as_rlimits().unwrap_err().contains("only as, core, data, fsize, nofile"));
        assert!(text("as").as_rlimits().is_err());
        assert!(text("as=lots").as_rlimits().unwrap_err().starts_with("as: a size is"));
        assert!(Value::Other("a table of other things than texts").as_rlimits().is_err());
        assert_eq!(text("64GiB").as_size(), Ok(64 << 30));
    }

    #[test]
    fn counts_and_lists() {
        assert_eq!(text("7").as_count(), Ok(7));
        assert_eq!(Value::Integer(7).as_count(), Ok(7));
        assert!(Value::Integer(-7).as_count().is_err());
        assert!(text("7.5").as_count().is_err());
        assert_eq!(text("a, b").as_list(), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert!(Value::Integer(1).as_list().is_err());
        let variables = Value::List(vec!["A=1=2".to_owned(), "B=".to_owned()]).as_variables().unwrap();
        assert_eq!(variables, [("A".to_owned(), "1=2".to_owned()), ("B".to_owned(), String::new())]);
        assert!(Value::List(vec!["A".to_owned()]).as_variables().is_err());
        assert!(Value::Table(vec![("A=B".to_owned(), String::new())]).as_variables().is_err());
        assert!(text("A=1").as_variables().is_err());
    }

    #[test]
    fn listen_addresses() {
        let tcp = |address: &str| Some(ListenAddress::Tcp(address.parse().unwrap()));
        for (text, expected) in [
            ("127.0.0.1:50051", tcp("127.0.0.1:50051")),
            ("localhost:0", tcp("127.0.0.1:0")),
            ("http://127.0.0.1:1", tcp("127.0.0.1:1")),
            ("[::1]:50051", tcp("[::1]:50051")),
            ("unix:/run/p.sock", Some(ListenAddress::Unix("/run/p.sock".into()))),
            ("unix:///run/p.sock", Some(ListenAddress::Unix("/run/p.sock".into()))),
            ("unix:", None),
            ("50051", None),
            ("example.org:50051", None),
        ] {
            assert_eq!(parse_listen_address(text).ok(), expected, "{text:?}");
            // The admin port takes the same, but for paths.
            if !text.starts_with("unix:") {
                assert_eq!(parse_tcp_address(text).map(ListenAddress::Tcp), expected, "{text:?}");
            }
        }
    }
}
