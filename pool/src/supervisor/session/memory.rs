//! How much memory a worker holds, against its limits; and whether the kernel took it for want of memory.
//!
//! The [monitor](crate::supervisor::monitor) looks, while the worker starts, while it has a chunk, and once after that.
//! What a worker allocates between two looks is not seen in time.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::supervisor::config::MemoryLimits;

/// How long the kernel's count of kills is kept for comparison: longer than a process with much memory takes to die.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);

/// What a reading calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Fine,
    /// The worker is to be replaced after its item. Said once.
    High { rss_bytes: u64 },
    /// The worker is to be killed.
    OverLimit { rss_bytes: u64, limit_bytes: u64 },
}

/// Judges the memory of one worker.
#[derive(Debug)]
pub(super) struct MemoryJudge {
    pid: u32,
    limits: MemoryLimits,
    is_known_as_high: bool,
    kills: OomKills,
}

impl MemoryJudge {
    pub(super) fn new(pid: u32, limits: MemoryLimits) -> Self {
        Self { pid, limits, is_known_as_high: false, kills: OomKills::of(pid) }
    }

    /// The worker is loaded: whatever started it is done moving it to a cgroup.
    pub(super) fn worker_loaded(&mut self) {
        self.kills = OomKills::of(self.pid);
    }

    /// The worker gets a chunk; `was_idle`: it has no other.
    pub(super) fn chunk_given(&mut self, was_idle: bool) {
        if was_idle {
            self.kills.forget();
        } else {
            self.kills.refresh();
        }
    }

    /// Judges how much the worker holds. `has_worked`: it was given a chunk. One that is large before that would not be
    /// smaller if it were replaced.
    pub(super) fn judge(&mut self, rss_bytes: Option<u64>, has_worked: bool) -> Verdict {
        self.kills.refresh();
        let Some(rss_bytes) = rss_bytes else { return Verdict::Fine };
        match self.limits {
            MemoryLimits { hard_bytes: Some(limit_bytes), .. } if rss_bytes > limit_bytes => {
                Verdict::OverLimit { rss_bytes, limit_bytes }
            }
            MemoryLimits { soft_bytes: Some(soft_bytes), .. }
                if rss_bytes > soft_bytes && has_worked && !self.is_known_as_high =>
            {
                self.is_known_as_high = true;
                Verdict::High { rss_bytes }
            }
            _ => Verdict::Fine,
        }
    }

    /// Returns whether the kernel has killed for want of memory lately, where the worker was.
    pub(super) fn kernel_has_killed(&self) -> bool {
        self.kills.have_risen()
    }
}

/// The kernel's count of the processes that it killed for want of memory: in the worker's memory cgroup or, where that
/// has no count, on the whole machine.
#[derive(Debug)]
struct OomKills {
    file: PathBuf,
    /// Two counts, the older first. The older is at least [`COUNT_INTERVAL`] old while there is something to do: the
    /// count rises when the signal is sent, and a process with much memory takes a while to die of it.
    counts: [u64; 2],
    counted_at: Instant,
}

impl OomKills {
    fn of(pid: u32) -> Self {
        let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        Self::in_file(count_file(&cgroups, |file| count_in(file).is_some()))
    }

    fn in_file(file: PathBuf) -> Self {
        let count = count_in(&file).unwrap_or(0);
        Self { file, counts: [count; 2], counted_at: Instant::now() }
    }

    /// Forgets what was counted before now, unless it was counted just now.
    fn forget(&mut self) {
        if self.counted_at.elapsed() >= COUNT_INTERVAL {
            *self = Self::in_file(std::mem::take(&mut self.file));
        }
    }

    fn refresh(&mut self) {
        if self.counted_at.elapsed() >= COUNT_INTERVAL {
            self.counts = [self.counts[1], count_in(&self.file).unwrap_or(self.counts[1])];
            self.counted_at = Instant::now();
        }
    }

    fn have_risen(&self) -> bool {
        count_in(&self.file).is_some_and(|count| count > self.counts[0])
    }
}

/// Returns the file that has the count for a process, from what /proc says of its cgroups.
fn count_file(cgroups: &str, has_count: impl Fn(&PathBuf) -> bool) -> PathBuf {
    // A line is NUMBER:CONTROLLERS:PATH; version 2 has no controllers in it.
    let candidates = cgroups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        if controllers.is_empty() {
            Some(format!("/sys/fs/cgroup{path}/memory.events"))
        } else if controllers.split(',').any(|controller| controller == "memory") {
            Some(format!("/sys/fs/cgroup/memory{path}/memory.oom_control"))
        } else {
            None
        }
    });
    candidates.map(PathBuf::from).find(has_count).unwrap_or_else(|| PathBuf::from("/proc/vmstat"))
}

/// Finds the line `oom_kill COUNT`, which all of these files have.
fn count_in(file: &PathBuf) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_that_of_the_memory_cgroup_or_of_the_machine() {
        let file = |cgroups: &str, existing: &str| count_file(cgroups, |file| file.as_os_str() == existing);
        let unified = "0::/kubepods/pod1/c1\n";
        let unified_file = "/sys/fs/cgroup/kubepods/pod1/c1/memory.events";
        assert_eq!(file(unified, unified_file), PathBuf::from(unified_file));
        assert_eq!(file(unified, ""), PathBuf::from("/proc/vmstat"), "the root of version 2 has no such file");
        let mixed = "9:name=systemd:/\n4:cpu,memory:/jobs/a:b\n1:cpu:/\n0::/\n";
        let mixed_file = "/sys/fs/cgroup/memory/jobs/a:b/memory.oom_control";
        assert_eq!(file(mixed, mixed_file), PathBuf::from(mixed_file));
        assert_eq!(file("", ""), PathBuf::from("/proc/vmstat"));
        assert!(count_in(&PathBuf::from("/proc/vmstat")).is_some(), "Linux has it since 4.13");
    }

    #[test]
    fn a_worker_is_high_only_once_it_has_worked() {
        let mut judge = MemoryJudge::new(std::process::id(), MemoryLimits { soft_bytes: Some(1), hard_bytes: None });
        assert_eq!(judge.judge(Some(2), false), Verdict::Fine, "the next one would be no smaller");
        assert_eq!(judge.judge(Some(1), true), Verdict::Fine);
        assert_eq!(judge.judge(None, true), Verdict::Fine, "nothing is known");
        assert_eq!(judge.judge(Some(2), true), Verdict::High { rss_bytes: 2 });
        assert_eq!(judge.judge(Some(2), true), Verdict::Fine, "it was said already");
        judge.limits.hard_bytes = Some(1);
        assert_eq!(judge.judge(Some(2), true), Verdict::OverLimit { rss_bytes: 2, limit_bytes: 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_kill_counts_for_a_while_and_not_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("memory.events");
        let write = |kills: u64| std::fs::write(&file, format!("oom 7\noom_kill {kills}\noom_group_kill 0\n")).unwrap();
        write(3);
        let mut kills = OomKills::in_file(file.clone());
        assert!(!kills.have_risen(), "what was before does not count");
        tokio::time::advance(COUNT_INTERVAL).await;
        kills.refresh();
        write(4);
        assert!(kills.have_risen());
        tokio::time::advance(COUNT_INTERVAL).await;
        kills.refresh();
        assert!(kills.have_risen(), "the process may not be dead yet");
        tokio::time::advance(COUNT_INTERVAL).await;
        kills.refresh();
        assert!(!kills.have_risen(), "it was another process");

        write(5);
        kills.forget();
        assert!(kills.have_risen(), "this may be why the worker has died");
        tokio::time::advance(COUNT_INTERVAL).await;
        kills.forget();
        assert!(!kills.have_risen(), "a worker that lives on was not meant");
    }
}
