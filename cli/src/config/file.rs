//! The configuration file: TOML → values with their lines. What the values mean is the business of `settings`.

use std::ops::Range;

use toml_edit::{Document, Item, TableLike};

use super::layer::{Layer, Origin};
use super::setting::Setting;
use super::settings::{POOL, SERVER};
use super::value::Value;

const MAX_POOLS: usize = 64;
/// The limit of a Kubernetes label.
const MAX_POOL_NAME_BYTES: usize = 63;
/// The least Jaro-Winkler similarity of a key to a suggested one.
const MIN_LIKENESS: f64 = 0.8;

/// What a file says.
#[derive(Debug, Default)]
pub(crate) struct File {
    pub(crate) server: Layer,
    /// In the order of the file.
    pub(crate) pools: Vec<(String, Layer)>,
}

/// Reads a file; `path` is what messages call it.
///
/// # Errors
///
/// With everything that is wrong with it, one thing a line.
pub(crate) fn parse(path: &str, text: &str) -> Result<File, Vec<String>> {
    let document = Document::parse(text).map_err(|error| {
        let place = error.span().map_or_else(|| path.to_owned(), |span| format!("{path}:{}", line(text, span.start)));
        vec![format!("{} ({place})", error.message())]
    })?;
    let mut reader = Reader { path, text, errors: Vec::new() };
    let file = reader.file(document.as_table());
    if reader.errors.is_empty() { Ok(file) } else { Err(reader.errors) }
}

/// Returns the key that was meant; `None` if none is like it.
pub(super) fn nearest<'a>(key: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = candidates.into_iter().map(|candidate| (strsim::jaro_winkler(candidate, key), candidate));
    let best = scored.max_by(|left, right| left.0.total_cmp(&right.0));
    best.filter(|(likeness, _)| *likeness >= MIN_LIKENESS).map(|(_, candidate)| candidate)
}

struct Reader<'a> {
    path: &'a str,
    text: &'a str,
    errors: Vec<String>,
}

impl Reader<'_> {
    fn file(&mut self, table: &dyn TableLike) -> File {
        let mut file = File::default();
        for (key, item) in table.iter() {
            let place = self.place(table, key, item);
            if let Some(setting) = find(&SERVER, key) {
                file.server.insert(setting.key, (value(item), Origin::File(place)));
            } else if key == "pools" {
                match item.as_table_like() {
                    Some(pools) => file.pools = self.pools(pools),
                    None => self.errors.push(format!("\"pools\" must be tables, [pools.NAME] ({place})")),
                }
            } else if find(&POOL, key).is_some() {
                self.errors.push(format!("{key:?} is a setting of a pool: put it below [pools.NAME] ({place})"));
            } else {
                let keys = SERVER.iter().map(|setting| setting.key).chain(["pools"]);
                self.unknown(key, "", &place, nearest(key, keys));
            }
        }
        file
    }

    fn pools(&mut self, tables: &dyn TableLike) -> Vec<(String, Layer)> {
        let mut pools = Vec::new();
        for (name, item) in tables.iter() {
            let place = self.place(tables, name, item);
            if !is_name(name) {
                self.errors.push(format!(
                    "{name:?} is no name of a pool: at most {MAX_POOL_NAME_BYTES} letters, digits, - and _ ({place})"
                ));
            } else if let Some(table) = item.as_table_like() {
                pools.push((name.to_owned(), self.pool(name, table)));
            } else if find(&POOL, name).is_some() {
                self.errors.push(format!("{name:?} is a setting of a pool: put it below [pools.NAME] ({place})"));
            } else {
                self.errors.push(format!("the pool {name:?} must be a table, [pools.{name}] ({place})"));
            }
        }
        if pools.len() > MAX_POOLS {
            self.errors.push(format!("{} pools are too many: at most {MAX_POOLS} ({})", pools.len(), self.path));
        }
        pools
    }

    fn pool(&mut self, name: &str, table: &dyn TableLike) -> Layer {
        let mut layer = Layer::new();
        for (key, item) in table.iter() {
            let place = self.place(table, key, item);
            if let Some(setting) = find(&POOL, key) {
                layer.insert(setting.key, (value(item), Origin::File(place)));
            } else if find(&SERVER, key).is_some() {
                self.errors.push(format!(
                    "{key:?} concerns the whole server: put it before the first [pools.NAME], not in [pools.{name}] ({place})"
                ));
            } else {
                let keys = POOL.iter().map(|setting| setting.key);
                self.unknown(key, &format!(" in [pools.{name}]"), &place, nearest(key, keys));
            }
        }
        layer
    }

    fn unknown(&mut self, key: &str, scope: &str, place: &str, meant: Option<&str>) {
        let hint = meant.map(|meant| format!("; did you mean {meant:?}?")).unwrap_or_default();
        self.errors.push(format!("unknown key {key:?}{scope} ({place}){hint}"));
    }

    /// Returns where a key stands.
    fn place(&self, table: &dyn TableLike, key: &str, item: &Item) -> String {
        let span: Option<Range<usize>> = table.key(key).and_then(toml_edit::Key::span).or_else(|| item.span());
        span.map_or_else(|| self.path.to_owned(), |span| format!("{}:{}", self.path, line(self.text, span.start)))
    }
}

fn find<T>(settings: &'static [Setting<T>], key: &str) -> Option<&'static Setting<T>> {
    settings.iter().find(|setting| setting.key == key)
}

fn is_name(name: &str) -> bool {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || character == '-' || character == '_';
    !name.is_empty() && name.len() <= MAX_POOL_NAME_BYTES && name.chars().all(is_plain)
}

fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn value(item: &Item) -> Value {
    if let Some(table) = item.as_table_like() {
        let entries = table.iter().map(|(name, item)| Some((name.to_owned(), item.as_str()?.to_owned())));
        return entries.collect::<Option<_>>().map_or(Value::Other("a table of other things than texts"), Value::Table);
    }
    let Some(value) = item.as_value() else { return Value::Other("an array of tables") };
    match value {
        toml_edit::Value::String(text) => Value::Text(text.value().clone()),
        toml_edit::Value::Integer(number) => Value::Integer(*number.value()),
        toml_edit::Value::Array(array) => {
            let entries = array.iter().map(|entry| entry.as_str().map(str::to_owned));
            entries.collect::<Option<_>>().map_or(Value::Other("an array of other things than texts"), Value::List)
        }
        toml_edit::Value::Float(_) => Value::Other("a fraction"),
        toml_edit::Value::Boolean(is_on) => Value::Boolean(*is_on.value()),
        toml_edit::Value::Datetime(_) => Value::Other("a date"),
        toml_edit::Value::InlineTable(_) => Value::Other("a table"),
    }
}
