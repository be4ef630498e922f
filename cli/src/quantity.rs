//! Quantities as people write them: durations such as `500ms`, `30s` or `1.5h`, and counts.

use std::num::NonZeroU32;
use std::time::Duration;

/// The units, in seconds. A unit that ends like another stands before it.
const UNITS: [(&str, f64); 6] = [("ms", 1e-3), ("us", 1e-6), ("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86400.0)];

/// Parses a number and a unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let number_end = text.find(|character: char| character.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let Some((_, seconds)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err("a duration is a number and a unit (us, ms, s, min, h or d), such as 30s or 500ms".to_owned());
    };
    let number: f64 = number.parse().map_err(|_| format!("{number:?} is no number"))?;
    let duration = Duration::try_from_secs_f64(number * seconds).map_err(|_| "it is out of range".to_owned())?;
    if duration.is_zero() {
        return Err("it must be longer than 0".to_owned());
    }
    Ok(duration)
}

/// Parses a number and a unit, or `0`.
pub(crate) fn duration_or_zero(text: &str) -> Result<Duration, String> {
    if text.trim_end_matches(char::is_alphabetic) == "0" { Ok(Duration::ZERO) } else { duration(text) }
}

/// Parses a number that is not 0.
pub(crate) fn positive(text: &str) -> Result<NonZeroU32, String> {
    let number: u32 = text.parse().map_err(|_| format!("it is no whole number from 1 to {}", u32::MAX))?;
    NonZeroU32::new(number).ok_or_else(|| "it must be at least 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, expected) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("30s", Some(Duration::from_secs(30))),
            ("1.5h", Some(Duration::from_secs(5400))),
            ("2min", Some(Duration::from_secs(120))),
            ("20us", Some(Duration::from_micros(20))),
            ("1d", Some(Duration::from_secs(86400))),
            ("30", None),
            ("s", None),
            ("", None),
            ("0s", None),
            ("-1s", None),
            ("1e400s", None),
            ("1e3s", None),
            ("30 s", None),
            ("30S", None),
            ("infs", None),
            ("5m", None),
        ] {
            assert_eq!(duration(text).ok(), expected, "{text:?}");
        }
        assert_eq!(duration_or_zero("0"), Ok(Duration::ZERO));
        assert_eq!(duration_or_zero("0s"), Ok(Duration::ZERO));
        assert_eq!(duration_or_zero("1s"), Ok(Duration::from_secs(1)));
    }
}
