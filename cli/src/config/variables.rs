//! The settings that variables of the environment give.

use std::ffi::OsString;
use std::path::PathBuf;

use super::file::nearest;
use super::layer::{Layer, Layers, Origin};
use super::setting::Setting;
use super::settings::{POOL, SERVER};
use super::value::Value;

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

type Environment = [(OsString, OsString)];

/// Returns the path of the configuration file.
pub(super) fn config_file(environment: &Environment) -> Option<PathBuf> {
    find(environment, CONFIG_FILE).map(PathBuf::from)
}

/// Returns the settings in the environment, and what may be a mistake there. An empty variable counts as none.
///
/// # Errors
///
/// With every variable that is no text.
pub(super) fn layers(environment: &Environment) -> Result<(Layers, Vec<String>), Vec<String>> {
    let mut errors = Vec::new();
    let server = layer(&SERVER, environment, &mut errors);
    let pool = layer(&POOL, environment, &mut errors);
    if errors.is_empty() { Ok((Layers { server, pool }, warnings(environment))) } else { Err(errors) }
}

fn layer<T: Clone + Default>(
    settings: &'static [Setting<T>],
    environment: &Environment,
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

fn find<'a>(environment: &'a Environment, name: &str) -> Option<&'a OsString> {
    environment.iter().find(|(found, value)| found == name && !value.is_empty()).map(|(_, value)| value)
}

/// Returns what looks like a setting and is none. No error: Kubernetes sets `PROCPOOL_PORT` and more for a service that
/// is called procpool.
fn warnings(environment: &Environment) -> Vec<String> {
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
