//! Reads /proc: which processes are alive.

use std::{fs, io};

/// A process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    /// When it started, in ticks since boot; tells it from a later process with the same id.
    pub(crate) start: u64,
}

/// Returns the children of this process.
pub(crate) fn children() -> io::Result<Vec<Process>> {
    let own_pid = own_pid();
    Ok(all()?.into_iter().filter(|process| process.parent == own_pid).collect())
}

/// Returns what is left of processes: themselves, members of their groups, and any child of this process.
pub(crate) fn left_of(gone: &[Process]) -> io::Result<Vec<Process>> {
    let own_pid = own_pid();
    let is_left = |process: &Process| {
        let is_one = gone.iter().any(|one| one.pid == process.pid && one.start == process.start);
        // Workers lead groups of their own; ours is another.
        let is_in_group = gone.iter().any(|one| one.group == one.pid && one.group == process.group);
        is_one || is_in_group || process.parent == own_pid
    };
    Ok(all()?.into_iter().filter(is_left).collect())
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Returns every process, zombies included.
fn all() -> io::Result<Vec<Process>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that ended since the folder was read is none.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        processes.extend(parse_stat(pid, &stat));
    }
    Ok(processes)
}

/// Parses `/proc/PID/stat`; `None` if it is malformed.
fn parse_stat(pid: i32, stat: &str) -> Option<Process> {
    // The name stands in parentheses, and may have some too.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let [_state, parent, group, ..] = fields[..] else { return None };
    Some(Process {
        pid,
        parent: parent.parse().ok()?,
        group: group.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_parsed_whatever_the_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123 0 0";
        assert_eq!(parse_stat(7, stat), Some(Process { pid: 7, parent: 1, group: 7, start: 123 }));
        assert_eq!(parse_stat(7, "7 (a"), None);
        assert_eq!(parse_stat(7, "7 (a) S 1 7"), None);
    }

    #[test]
    fn this_process_is_among_all() {
        assert!(all().unwrap().iter().any(|process| process.pid == own_pid()));
    }
}
