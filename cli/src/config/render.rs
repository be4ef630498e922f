//! `--print-config`: the effective configuration as a file would have it, with where each value comes from.

use std::fmt::Write as _;

use super::layer::Origin;
use super::merge::{Config, Resolved};
use super::setting::Setting;
use super::settings::{POOL, SERVER};
use super::value::Shown;

const REDACTED: &str = "<redacted>";

/// Returns the configuration as TOML. The values of variables are left out.
pub(crate) fn as_toml(config: &Config) -> String {
    let mut text = String::new();
    add_settings(&mut text, &SERVER, &config.server);
    for (name, pool) in &config.pools {
        // Writing to a string cannot fail, here and below.
        let _ = write!(text, "\n[pools.{name}]\n");
        add_settings(&mut text, &POOL, pool);
    }
    text
}

fn add_settings<T: Clone + Default>(text: &mut String, settings: &[Setting<T>], resolved: &Resolved<T>) {
    for setting in settings {
        let key = setting.key;
        let _ = match setting.show(&resolved.settings) {
            Some(shown) => {
                let origin = resolved.origins.get(key).map_or_else(|| "default".to_owned(), Origin::to_string);
                writeln!(text, "{key} = {}  # {origin}", toml(shown))
            }
            None => writeln!(text, "# {key}: {}", setting.default_text()),
        };
    }
}

fn toml(shown: Shown) -> String {
    let quoted = |text: &String| toml_edit::Value::from(text).to_string();
    let joined = |parts: Vec<String>| parts.join(", ");
    match shown {
        Shown::Number(number) => number.to_string(),
        Shown::Boolean(is_on) => is_on.to_string(),
        Shown::Text(text) => quoted(&text),
        Shown::List(list) => format!("[{}]", joined(list.iter().map(quoted).collect())),
        Shown::Table(entries) if entries.is_empty() => "{}".to_owned(),
        Shown::Table(entries) => {
            let entries =
                entries.iter().map(|(name, text)| format!("{} = {}", toml_edit::Key::new(name), quoted(text)));
            format!("{{ {} }}", joined(entries.collect()))
        }
        Shown::Redacted(names) if names.is_empty() => "{}".to_owned(),
        Shown::Redacted(names) => {
            let entries = names.iter().map(|name| format!("{} = {REDACTED:?}", toml_edit::Key::new(name)));
            format!("{{ {} }}", joined(entries.collect()))
        }
    }
}
