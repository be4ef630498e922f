//! The configuration of `procpool serve`: flags before the environment before the file before the defaults.
//!
//! | module | |
//! | --- | --- |
//! | `settings` | every setting, once; the rest follows from these tables |
//! | `setting` | what a setting is |
//! | `kinds` | what a setting can be |
//! | `value` | values as text and TOML have them |
//! | `flags`, `env`, `file` | where values come from; `env` alone reads the environment |
//! | `render` | `--print-config` |
//!
//! A value that is wrong is an error even where another wins over it.

mod env;
mod file;
mod flags;
mod kinds;
mod render;
mod setting;
mod settings;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::Read as _;
use std::path::Path;

use procpool_pool::supervisor::{MemoryLimits, SpawnConfig};
use procpool_server::ListenAddress;

pub(crate) use self::env::{available_cpus, environment, executable, has_program, load_average, no_color, variable};
use self::file::File;
pub(crate) use self::flags::SettingFlags;
pub(crate) use self::render::as_toml;
use self::setting::Setting;
pub(crate) use self::settings::{LogCalls, LogFormat, PoolSettings, ServerSettings};
use self::settings::{POOL, SERVER};
use self::value::Value;

/// The name of the pool of a server that has only one and no name for it.
pub(crate) const DEFAULT_POOL: &str = "default";

/// Larger than any configuration file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Values by the keys of their settings, and where they come from.
type Layer = BTreeMap<&'static str, (Value, Origin)>;

/// What flags or variables say.
#[derive(Debug, Default)]
struct Layers {
    server: Layer,
    /// For the only pool.
    pool: Layer,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// The name of the flag, without the dashes.
    Flag(String),
    Variable(String),
    /// The path of the file, and the line.
    File(String),
    /// What stands behind the `--`.
    Command,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(formatter, "--{flag}"),
            Self::Variable(place) | Self::File(place) => formatter.write_str(place),
            Self::Command => formatter.write_str("the command behind --"),
        }
    }
}

/// The effective configuration.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) server: Resolved<ServerSettings>,
    /// At least one.
    pub(crate) pools: Vec<(String, Resolved<PoolSettings>)>,
    /// What may be a mistake.
    pub(crate) warnings: Vec<String>,
}

/// Settings, and where those come from that are not the defaults.
#[derive(Debug, Default)]
pub(crate) struct Resolved<T> {
    pub(crate) settings: T,
    origins: BTreeMap<&'static str, Origin>,
}

/// Everything that is wrong with the configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub(crate) struct ConfigErrors(pub(crate) Vec<String>);

/// Reads the configuration: a file, if one is named here or in the environment, flags, and the command of a worker if it is
/// not empty.
///
/// # Errors
///
/// With everything that is wrong in the place that is wrong first: the file, the environment, and then what they come to.
pub(crate) fn load(
    file: Option<&Path>,
    flags: &SettingFlags,
    command: &[OsString],
    environment: &[(OsString, OsString)],
) -> Result<Config, ConfigErrors> {
    let variable = env::config_file(environment);
    let file = file.or(variable.as_deref()).map(read_file).transpose()?.unwrap_or_default();
    let (variables, warnings) = env::layers(environment).map_err(ConfigErrors)?;
    let mut config = merge(&file, &variables, &flags.0, command)?;
    config.warnings = warnings;
    config.warnings.extend(config.server.access_warning());
    Ok(config)
}

fn read_file(path: &Path) -> Result<File, ConfigErrors> {
    let name = path.display().to_string();
    let cannot = |why: &dyn fmt::Display| ConfigErrors(vec![format!("cannot read {name}: {why}")]);
    let file = std::fs::File::open(path).map_err(|error| cannot(&error))?;
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(|error| cannot(&error))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(cannot(&"it is larger than 1 MiB, which no configuration file is"));
    }
    file::parse(&name, &text).map_err(ConfigErrors)
}

/// Lays the sources on top of each other.
fn merge(file: &File, variables: &Layers, flags: &Layers, command: &[OsString]) -> Result<Config, ConfigErrors> {
    let mut errors = Vec::new();
    let server = resolve(&SERVER, "", [&file.server, &variables.server, &flags.server], &mut errors);
    let no_pools = [(DEFAULT_POOL.to_owned(), Layer::new())];
    let layers: &[(String, Layer)] = if file.pools.is_empty() { &no_pools } else { &file.pools };
    let mut pools = Vec::new();
    if let [(name, layer)] = layers {
        let scope = format!(" in [pools.{name}]");
        let mut pool = resolve(&POOL, &scope, [layer, &variables.pool, &flags.pool], &mut errors);
        if !command.is_empty() {
            pool.settings.command = command.to_vec();
            pool.origins.insert("command", Origin::Command);
        }
        pools.push((name.clone(), pool));
    } else {
        errors.extend(misplaced(layers, [&variables.pool, &flags.pool], command));
        for (name, layer) in layers {
            pools.push((name.clone(), resolve(&POOL, &format!(" in [pools.{name}]"), [layer], &mut errors)));
        }
    }
    if errors.is_empty()
        && let Err(error) = server.settings.config.validate()
    {
        let place = server.origins.get(error.setting).map(|origin| format!(" ({origin})")).unwrap_or_default();
        errors.push(format!("{}{place}: {}", error.setting, error.problem));
    }
    if errors.is_empty() {
        errors.extend(pools.iter().filter_map(|(name, pool)| pool.memory_problem(name)));
    }
    let config = Config { server, pools, warnings: Vec::new() };
    if errors.is_empty() { Ok(config) } else { Err(ConfigErrors(errors)) }
}

/// Applies layers to the defaults, the last one wins.
fn resolve<const N: usize, T: Clone + Default>(
    settings: &'static [Setting<T>],
    scope: &str,
    layers: [&Layer; N],
    errors: &mut Vec<String>,
) -> Resolved<T> {
    let mut resolved = Resolved { settings: T::default(), origins: BTreeMap::new() };
    for (setting, layer) in layers.iter().flat_map(|layer| settings.iter().map(move |setting| (setting, layer))) {
        let Some((value, origin)) = layer.get(setting.key) else { continue };
        if let Err(problem) = setting.set(&mut resolved.settings, value) {
            errors.push(match origin {
                Origin::File(place) => format!("{}{scope} ({place}): {problem}", setting.key),
                origin => format!("{origin}: {problem}"),
            });
        }
        resolved.origins.insert(setting.key, origin.clone());
    }
    resolved
}

/// Returns what is said of "the pool" while there are several.
fn misplaced(pools: &[(String, Layer)], layers: [&Layer; 2], command: &[OsString]) -> Vec<String> {
    let tables: Vec<String> = pools.iter().map(|(name, _)| format!("[pools.{name}]")).collect();
    let tables = tables.join(" or ");
    let settings = layers.into_iter().flatten().map(|(key, (_, origin))| (*key, origin.clone()));
    let command = (!command.is_empty()).then_some(("command", Origin::Command));
    let complain = |(key, origin)| {
        format!("{origin} concerns one pool, but the configuration file has several: put {key:?} into {tables}")
    };
    settings.chain(command).map(complain).collect()
}

impl Resolved<ServerSettings> {
    /// Until there are identities, everybody who can connect may call; who listens to a network should know.
    fn access_warning(&self) -> Option<String> {
        if self.origins.contains_key("operators") {
            return None;
        }
        let is_open = |address: &&ListenAddress| match address {
            ListenAddress::Tcp(address) => !address.ip().to_canonical().is_loopback(),
            ListenAddress::Unix(_) => false,
        };
        let address = self.settings.config.listen.iter().find(is_open)?;
        Some(format!(
            "everybody who can reach {} can call every function, and nothing is encrypted; looking at the workers, \
             resizing, restarting and draining is left to callers on this machine: set operators to local, anyone or \
             nobody to say that this is meant",
            kinds::show_address(address)
        ))
    }
}

impl Resolved<PoolSettings> {
    /// A worker would be killed before it could be replaced.
    fn memory_problem(&self, pool: &str) -> Option<String> {
        let MemoryLimits { soft_bytes, hard_bytes } = self.settings.memory;
        if soft_bytes? <= hard_bytes? {
            return None;
        }
        let place = self.origins.get("worker_memory_limit").map(|origin| format!(" ({origin})")).unwrap_or_default();
        Some(format!("worker_memory_limit in [pools.{pool}]{place}: must be at least max_worker_memory"))
    }
}

impl PoolSettings {
    /// Returns how to start a worker: the command, or else this program as the built-in worker. A frame must hold the
    /// end of one message, the beginning of the next, and what is between them.
    ///
    /// # Errors
    ///
    /// If the system does not tell which program this is.
    pub(crate) fn spawn_config(
        &self,
        environment: Vec<(OsString, OsString)>,
        max_message_bytes: u32,
    ) -> std::io::Result<SpawnConfig> {
        let mut spawn_config = match self.command.split_first() {
            Some((program, args)) => SpawnConfig { args: args.to_vec(), ..SpawnConfig::new(program, environment) },
            None => SpawnConfig { args: vec!["worker".into()], ..SpawnConfig::new(executable()?, environment) },
        };
        let longest_chunk = max_message_bytes.saturating_mul(2).saturating_add(32 << 20);
        spawn_config.max_frame_bytes = spawn_config.max_frame_bytes.max(longest_chunk);
        spawn_config.passed_variables.extend(self.pass_environment.iter().cloned());
        let variables = self.environment.iter().map(|(name, value)| (name.into(), value.into()));
        spawn_config.variables = variables.collect();
        spawn_config.working_directory.clone_from(&self.working_directory);
        spawn_config.oom_score_raise = u16::try_from(self.oom_score_raise).unwrap_or(u16::MAX);
        spawn_config.memory = self.memory;
        spawn_config.rlimits.clone_from(&self.rlimits);
        Ok(spawn_config)
    }
}
