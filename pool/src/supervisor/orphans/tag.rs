//! The tag by which a worker's descendants are known, whatever they have done since.
//!
//! It is the soft value of `RLIMIT_LOCKS`, a limit that has had no effect since Linux 2.4. Children inherit it with
//! whatever environment and session they are started, programs keep it, orphans too, and `/proc/PID/limits` shows it to
//! everybody. Only a process that sets this very limit for itself is lost. The environment says the same, for where it
//! cannot be set: some sandboxes do not know it, and an administrator may have bounded it.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Read as _;
use std::num::ParseIntError;
use std::str::FromStr;

use rustix::process::{Pid, Resource, Rlimit};

/// The variable that says it.
const VARIABLE: &str = "PROCPOOL_TAG";
/// The line of `/proc/PID/limits` that says it.
const LIMIT: &str = "Max file locks";
/// More than there is of the limits, and of most environments.
const TYPICAL_BYTES: usize = 8 << 10;
/// The low bits of a worker's tag are its number, the high ones its server.
const NUMBER_BITS: u32 = 24;

/// A server among all, of this machine and of its containers, now and later: 40 random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerTag(u64);

/// A worker among those of all servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::supervisor) struct WorkerTag(u64);

impl ServerTag {
    pub(in crate::supervisor) fn new() -> Self {
        // The standard library's hasher is seeded anew each time.
        Self(RandomState::new().hash_one(std::process::id()) >> NUMBER_BITS)
    }

    /// Returns the tag of the worker with this number, of which the low 24 bits count.
    pub(in crate::supervisor) fn worker(self, number: u32) -> WorkerTag {
        WorkerTag((self.0 << NUMBER_BITS) | (u64::from(number) & ((1 << NUMBER_BITS) - 1)))
    }

    /// Returns the worker from which a process descends, if that is one of this server; the worker itself is one, too.
    ///
    /// The process must not end meanwhile, or its number may be another's.
    pub(in crate::supervisor) fn ancestor(self, pid: Pid) -> Option<WorkerTag> {
        let is_ours = |tag: &WorkerTag| tag.0 >> NUMBER_BITS == self.0;
        limit(pid).filter(is_ours).or_else(|| variable(pid).filter(is_ours))
    }
}

impl fmt::Display for ServerTag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for ServerTag {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl WorkerTag {
    /// Returns the limit that says it.
    pub(in crate::supervisor) fn limit(self) -> (Resource, Rlimit) {
        let own = rustix::process::getrlimit(Resource::Locks);
        (Resource::Locks, Rlimit { current: Some(self.0), maximum: own.maximum })
    }

    /// Returns the variable that says it.
    pub(in crate::supervisor) fn variable(self) -> (&'static str, OsString) {
        (VARIABLE, self.0.to_string().into())
    }
}

fn limit(pid: Pid) -> Option<WorkerTag> {
    let limits = read(pid, "limits")?;
    let line = str::from_utf8(&limits).ok()?.lines().find_map(|line| line.strip_prefix(LIMIT))?;
    line.split_ascii_whitespace().next()?.parse().ok().map(WorkerTag)
}

fn variable(pid: Pid) -> Option<WorkerTag> {
    read(pid, "environ")?.split(|&byte| byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(VARIABLE.as_bytes())?.strip_prefix(b"=")?;
        str::from_utf8(value).ok()?.parse().ok().map(WorkerTag)
    })
}

fn read(pid: Pid, file: &str) -> Option<Vec<u8>> {
    // The files in /proc do not tell how long they are, and to find out by and by takes longer than all the rest.
    let mut content = Vec::with_capacity(TYPICAL_BYTES);
    File::open(format!("/proc/{pid}/{file}")).ok()?.read_to_end(&mut content).ok()?;
    Some(content)
}
