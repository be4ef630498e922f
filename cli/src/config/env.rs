//! What the program takes from its surroundings: the one place that reads the environment. (`--server` has its
//! variable, `PROCPOOL_SERVER`, in `args`.)

use std::ffi::OsString;
use std::io;
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::file::nearest;
use super::setting::Setting;
use super::settings::{POOL, SERVER};
use super::value::Value;
use super::{Layer, Layers, Origin};

const PREFIX: &str = "PROCPOOL_";
const CONFIG_FILE: &str = "PROCPOOL_CONFIG";
/// Variables that are no settings of the server: for clients, and for workers.
const OTHERS: [&str; 8] = [
    CONFIG_FILE,
    "PROCPOOL_SERVER",
    "PROCPOOL_FD",
    "PROCPOOL_POOL",
    "PROCPOOL_SLOT",
    "PROCPOOL_SOCKET",
    "PROCPOOL_WORKER_ID",
    "PROCPOOL_TAG",
];

type Variables = [(OsString, OsString)];

/// Returns the path of the configuration file.
pub(super) fn config_file(environment: &Variables) -> Option<PathBuf> {
    find(environment, CONFIG_FILE).map(PathBuf::from)
}

/// Returns the settings in the environment, and what may be a mistake there. An empty variable counts as none.
///
/// # Errors
///
/// With every variable that is no text.
pub(super) fn layers(environment: &Variables) -> Result<(Layers, Vec<String>), Vec<String>> {
    let mut errors = Vec::new();
    let server = layer(&SERVER, environment, &mut errors);
    let pool = layer(&POOL, environment, &mut errors);
    if errors.is_empty() { Ok((Layers { server, pool }, warnings(environment))) } else { Err(errors) }
}

fn layer<T: Clone + Default>(
    settings: &'static [Setting<T>],
    environment: &Variables,
    errors: &mut Vec<String>,
) -> Layer {
    let mut layer = Layer::new();
    for (setting, name) in settings.iter().filter_map(|setting| Some((setting, setting.variable()?))) {
        match find(environment, &name).map(|value| value.to_str().map(str::to_owned)) {
            Some(Some(text)) => {
                layer.insert(setting.key, (Value::Text(text), Origin::Variable(name)));
            }
            Some(None) => errors.push(format!("{name} is not UTF-8")),
            None => {}
        }
    }
    layer
}

fn find<'a>(environment: &'a Variables, name: &str) -> Option<&'a OsString> {
    environment.iter().find(|(found, value)| found == name && !value.is_empty()).map(|(_, value)| value)
}

/// Returns what looks like a setting and is none. No error: Kubernetes sets `PROCPOOL_PORT` and more for a service that
/// is called procpool.
fn warnings(environment: &Variables) -> Vec<String> {
    let known: Vec<String> =
        SERVER.iter().filter_map(Setting::variable).chain(POOL.iter().filter_map(Setting::variable)).collect();
    let names = environment.iter().filter_map(|(name, _)| name.to_str()).filter(|name| name.starts_with(PREFIX));
    let unknown = names.filter(|name| !OTHERS.contains(name) && !known.iter().any(|known| known == name));
    let near = unknown.filter_map(|name| {
        let keys = known.iter().map(|known| &known[PREFIX.len()..]);
        let meant = nearest(&name[PREFIX.len()..], keys)?;
        Some(format!("{name} is no setting; did you mean {PREFIX}{meant}?"))
    });
    near.collect()
}

/// Returns all variables, from which the pool lets a few through to workers.
pub(crate) fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

/// Returns one variable, unless it is empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok().filter(|value| !value.is_empty())
}

/// Tells whether the user wants no colours (<https://no-color.org>).
pub(crate) fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Returns this program, which is also the built-in worker.
pub(crate) fn executable() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// Tells whether there is such a program: at this path, or in a folder of `PATH` if it is a bare name.
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
