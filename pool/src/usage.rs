//! What a process uses of the machine, as /proc tells it.

use std::fs;
use std::time::Duration;

/// What a process uses of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The memory that it holds, in bytes.
    pub rss_bytes: u64,
    /// The processor time that it has used, in user and kernel mode.
    pub cpu_time: Duration,
}

impl Usage {
    /// Returns what a process uses; `None` if there is none or /proc does not tell.
    pub fn of(pid: u32) -> Option<Self> {
        if pid == 0 {
            return None;
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        let page_size = rustix::param::page_size() as u64;
        let resident: u64 = statm.split(' ').nth(1)?.parse().ok()?;
        Some(Self { rss_bytes: resident * page_size, cpu_time: cpu_time(&stat)? })
    }
}

/// The fields behind the name, which may itself have blanks and brackets: utime and stime are the 14th and 15th of all.
fn cpu_time(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let total = ticks()? + ticks()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_millis(total * 1000 / per_second.max(1)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Usage, cpu_time};

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 109 0 0 0 150 50 0 0 20 0 1 0 100 0 0";
        let ticks = rustix::param::clock_ticks_per_second();
        assert_eq!(cpu_time(stat), Some(Duration::from_millis(200 * 1000 / ticks)));
    }

    #[test]
    fn this_process_uses_memory_and_no_process_uses_nothing() {
        assert!(Usage::of(std::process::id()).unwrap().rss_bytes > 100_000);
        assert_eq!(Usage::of(0), None);
    }
}
