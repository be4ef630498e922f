//! The configuration of `procpool serve`: flags before the environment before the file before the defaults.
//!
//! | module | |
//! | --- | --- |
//! | `settings` | every setting, once; the rest follows from these tables |
//! | `setting` | what a setting is |
//! | `kind`, `kinds` | what the value of a setting can be |
//! | `value` | values as text and TOML have them |
//! | `flags`, `variables`, `file` | where values come from, each a `layer` |
//! | `merge` | which value wins, and what is wrong with the result |
//! | `render` | `--print-config` |
//! | `environment` | what the program takes from its surroundings; nothing else reads the environment |
//!
//! A value that is wrong is an error even where another wins over it.

mod environment;
mod file;
mod flags;
mod kind;
mod kinds;
mod layer;
mod merge;
mod render;
mod setting;
mod settings;
#[cfg(test)]
mod tests;
mod value;
mod variables;

use std::ffi::OsString;
use std::fmt;
use std::io::Read as _;
use std::path::Path;

pub(crate) use self::environment::{
    available_cpus, environment, executable, has_program, load_average, no_color, variable,
};
use self::file::File;
pub(crate) use self::flags::SettingFlags;
pub(crate) use self::kinds::show_address;
use self::merge::merge;
pub(crate) use self::merge::{Config, ConfigErrors, DEFAULT_POOL};
pub(crate) use self::render::as_toml;
pub(crate) use self::settings::{LogCalls, LogFormat, PoolSettings, ServerSettings};

/// Larger than any configuration file.
const MAX_FILE_BYTES: u64 = 1 << 20;

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
    let variable = variables::config_file(environment);
    let file = file.or(variable.as_deref()).map(read_file).transpose()?.unwrap_or_default();
    let (variables, warnings) = variables::layers(environment).map_err(ConfigErrors)?;
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
