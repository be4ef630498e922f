//! What a process and its descendants use of the machine, as /proc tells it.

use std::fs;
use std::time::Duration;

/// The most descendants that are looked at.
const MAX_DESCENDANTS: usize = 256;
/// `PF_FORKNOEXEC` of the kernel: the process was forked and runs no program of its own yet.
const FORKED_WITHOUT_EXEC: u64 = 0x40;

/// What a process uses of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The memory that it and its descendants hold, in bytes.
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
        Some(Self { rss_bytes: held_memory(pid)?, cpu_time: cpu_time(&stat)? })
    }
}

/// Returns the memory that a process and its descendants hold, in bytes; `None` if /proc does not tell. What has left
/// the tree, because its parent is dead, is not counted.
///
/// A child that was forked shares its parent's pages until one of them writes: only what it holds beyond its parent
/// counts. So memory that was copied on writing is not seen; but neither is one that is there once counted twice, which
/// would have a worker killed for nothing.
pub(crate) fn held_memory(pid: u32) -> Option<u64> {
    let own = resident_bytes(pid)?;
    let mut total = own;
    let mut parents = vec![(pid, own)];
    let mut num_seen = 0;
    while let Some((parent, parent_bytes)) = parents.pop() {
        for child in children(parent) {
            num_seen += 1;
            if num_seen > MAX_DESCENDANTS {
                return Some(total);
            }
            // In this order: a child that starts its own program between the two has only that program's memory then.
            // The other way round, what it shared before would count as its own.
            let has_own_program = has_own_program(child);
            // It may end while we look.
            let Some(bytes) = resident_bytes(child) else { continue };
            total += if has_own_program { bytes } else { bytes.saturating_sub(parent_bytes) };
            parents.push((child, bytes));
        }
    }
    Some(total)
}

/// Returns the memory that one process holds, in bytes; 0 if it is dead and waits to be reaped.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let resident: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(resident * rustix::param::page_size() as u64)
}

/// Lists the children of a process. The kernel keeps them by thread.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut children = Vec::new();
    for thread in threads.flatten() {
        let list = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.extend(list.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    children
}

/// Returns whether a process is stopped, by SIGSTOP or one of its kind. One that a debugger has stopped does not count.
pub(crate) fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state(&stat) == Some("T")
}

/// Returns whether a process is there and does not only wait to be reaped.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state(&stat).is_some_and(|state| !matches!(state, "Z" | "X"))
}

fn has_own_program(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    flags(&stat).is_some_and(|flags| flags & FORKED_WITHOUT_EXEC == 0)
}

/// Returns the fields behind the name, which may itself have blanks and brackets: the third of all and those after it.
fn fields(stat: &str) -> Option<impl Iterator<Item = &str>> {
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_ascii_whitespace())
}

/// The state is the third field of all.
fn state(stat: &str) -> Option<&str> {
    fields(stat)?.next()
}

/// The flags are the ninth field of all.
fn flags(stat: &str) -> Option<u64> {
    fields(stat)?.nth(6)?.parse().ok()
}

/// The times in user and kernel mode are the 14th and 15th field of all.
fn cpu_time(stat: &str) -> Option<Duration> {
    let mut fields = fields(stat)?.skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let total = ticks()? + ticks()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_millis(total * 1000 / per_second.max(1)))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::Stdio;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194368 109 0 0 0 150 50 0 0 20 0 1 0 100 0 0";
        let ticks = rustix::param::clock_ticks_per_second();
        assert_eq!(cpu_time(stat), Some(Duration::from_millis(200 * 1000 / ticks)));
        assert_eq!(state(stat), Some("S"));
        assert_eq!(flags(stat).unwrap() & FORKED_WITHOUT_EXEC, FORKED_WITHOUT_EXEC);
    }

    #[test]
    fn this_process_uses_memory_and_no_process_uses_nothing() {
        assert!(Usage::of(std::process::id()).unwrap().rss_bytes > 100_000);
        assert!(has_own_program(std::process::id()));
        assert_eq!(Usage::of(0), None);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "children of its own are what is measured")]
    fn a_child_counts_and_what_it_shares_counts_once() {
        const HELD: u64 = 32_000_000;
        // It waits for a line, then a child of its own for the end, one that it has forked and one of another program.
        let script = "x=$(head -c 32000000 /dev/zero | tr '\\0' a); echo; read y; (read z <&3; :) & cat <&3 >/dev/null & echo; wait";
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("exec 3<&0; {script}")]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = command.spawn().unwrap();
        let (mut input, mut output) = (shell.stdin.take().unwrap(), BufReader::new(shell.stdout.take().unwrap()));
        output.read_line(&mut String::new()).unwrap();
        let alone = held_memory(shell.id()).unwrap();
        assert!(alone > HELD, "{alone}");
        input.write_all(b"\n").unwrap();
        output.read_line(&mut String::new()).unwrap();
        let is_there = |child: &&u32| resident_bytes(**child).is_some_and(|bytes| bytes > 0);
        let children = children(shell.id());
        assert_eq!(children.iter().filter(is_there).count(), 2);
        // Until cat is its own program, it is a copy of the shell, and counts for nothing.
        let began = Instant::now();
        let mut together = alone;
        while together <= alone {
            assert!(began.elapsed() < Duration::from_secs(20), "{alone} alone, and no more with its children");
            together = held_memory(shell.id()).unwrap();
            assert!(together < alone + HELD / 2, "{alone} alone, {together} with its children");
        }
        drop(input);
        shell.wait().unwrap();
        assert_eq!(held_memory(shell.id()), None);
    }
}
