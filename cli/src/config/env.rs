//! What the program takes from its surroundings: the one place that reads the environment. (`--server` has its
//! variable, `PROCPOOL_SERVER`, in `args`.)

use std::ffi::OsString;
use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;

/// Returns all variables, from which the pool lets a few through to workers.
pub(crate) fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

/// Tells whether the user wants no colours (<https://no-color.org>).
pub(crate) fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Returns this program, which is also the built-in worker.
pub(crate) fn executable() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// Returns the number of CPUs that this process may use: the cgroup's quota and the affinity count, not the host.
pub(crate) fn available_cpus() -> NonZeroU32 {
    let cpus = std::thread::available_parallelism().ok().and_then(|cpus| NonZeroU32::try_from(cpus).ok());
    cpus.unwrap_or(NonZeroU32::MIN)
}

/// Returns how many processes wanted a CPU of this machine in the last minute, on average.
pub(crate) fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}
