//! Merges the sources into the effective configuration and checks it as a whole.

use std::collections::BTreeMap;
use std::ffi::OsString;

use procpool_pool::supervisor::MemoryLimits;
use procpool_server::ListenAddress;

use super::file::File;
use super::kinds::show_address;
use super::layer::{Layer, Layers, Origin};
use super::setting::Setting;
use super::settings::{POOL, PoolSettings, SERVER, ServerSettings};

/// The name of the pool of a server that has only one and no name for it.
pub(crate) const DEFAULT_POOL: &str = "default";

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
    pub(super) origins: BTreeMap<&'static str, Origin>,
}

/// Everything that is wrong with the configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub(crate) struct ConfigErrors(pub(crate) Vec<String>);

/// Merges the sources: flags win over variables over the file over the defaults.
pub(super) fn merge(
    file: &File,
    variables: &Layers,
    flags: &Layers,
    command: &[OsString],
) -> Result<Config, ConfigErrors> {
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
        errors.extend(pickle_problem(&server.settings, &pools));
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

/// Returns an error for each setting of one pool while there are several.
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

/// Returns why clients cannot be allowed to send functions as pickles, if a pool would let them.
fn pickle_problem(server: &ServerSettings, pools: &[(String, Resolved<PoolSettings>)]) -> Option<String> {
    let mut allowing = pools.iter().filter(|(_, pool)| pool.settings.allow_pickle);
    let (name, pool) = allowing.next()?;
    let place = pool.origins.get("allow_pickle").map(|origin| format!(" ({origin})")).unwrap_or_default();
    if let Some(address) = server.open_address() {
        return Some(format!(
            "allow_pickle in [pools.{name}]{place}: whoever can reach {} could run any code as this user, since clients are \
             not identified; listen on localhost or a Unix socket only, or do not allow pickles",
            show_address(address)
        ));
    }
    let (other, _) = allowing.next()?;
    Some(format!(
        "allow_pickle in [pools.{name}]{place}: [pools.{other}] allows pickles, too, and a function belongs to one pool; \
         allow them in one of the two"
    ))
}

impl ServerSettings {
    /// Returns an address that other machines may be able to reach.
    fn open_address(&self) -> Option<&ListenAddress> {
        self.config.listen.iter().find(|address| match address {
            ListenAddress::Tcp(address) => !address.ip().to_canonical().is_loopback(),
            ListenAddress::Unix(_) => false,
        })
    }
}

impl Resolved<ServerSettings> {
    /// Returns a warning if the server listens to a network and does not say who operates it: there are no identities yet,
    /// so whoever can connect may call.
    pub(super) fn access_warning(&self) -> Option<String> {
        if self.origins.contains_key("operators") {
            return None;
        }
        let address = self.settings.open_address()?;
        Some(format!(
            "everybody who can reach {} can call every function, and nothing is encrypted; looking at the workers, \
             resizing, restarting and draining is left to callers on this machine: set operators to local, anyone or \
             nobody to say that this is meant",
            show_address(address)
        ))
    }
}

impl Resolved<PoolSettings> {
    /// Returns what is wrong with the limits of memory: a worker must not be killed before it is replaced.
    fn memory_problem(&self, pool: &str) -> Option<String> {
        let MemoryLimits { soft_bytes, hard_bytes } = self.settings.memory;
        if soft_bytes? <= hard_bytes? {
            return None;
        }
        let place = self.origins.get("worker_memory_limit").map(|origin| format!(" ({origin})")).unwrap_or_default();
        Some(format!("worker_memory_limit in [pools.{pool}]{place}: must be at least max_worker_memory"))
    }
}
