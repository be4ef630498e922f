//! What the program takes from its surroundings: the one place that reads the environment. (`--server` has its
//! variable, `PROCPOOL_SERVER`, in `connect`.)

use std::ffi::OsString;
use std::io;
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Returns all variables, from which the pool lets a few through to workers.
pub(crate) fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

/// Returns one variable, unless it is empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok().filter(|value| !value.is_empty())
}

/// Returns whether the user wants no colours (<https://no-color.org>).
pub(crate) fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Returns this program, which is also the built-in worker.
pub(crate) fn executable() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// Returns whether there is such a program: at this path, or in a folder of `PATH` if it is a bare name.
pub(crate) fn has_program(name: &str) -> bool {
    let is_program =
        |path: &Path| path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    if name.contains('/') {
        return is_program(Path::new(name));
    }
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| is_program(&folder.join(name))))
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
