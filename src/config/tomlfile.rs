//! TOML syntax: sections with keys. Keys may be written with `_` or `-`, values as TOML has them (numbers,
//! true and false, texts, arrays for what has several words). Everything is turned into the words a
//! redis.conf line would have, so that both syntaxes accept the same values.

use super::error::{ConfigError, Place, unknown};
use super::load::Loading;
use super::setting::Fault;
use super::spec::{OptionSpec, Section};
use super::{OPTIONS, conf};
use std::ops::Range;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// A file being read.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    /// The place of the byte range `span`.
    fn place(&self, span: Range<usize>) -> Place {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Place { file: Some(self.path.to_owned()), line: Some(line) }
    }
}

/// Whether `key` is how TOML may write `name`.
pub(super) fn is_key(key: &str, name: &str) -> bool {
    let same = |(one, other): (u8, u8)| one.eq_ignore_ascii_case(&other) || (one == b'_' && other == b'-');
    key.len() == name.len()
        && key.bytes().zip(name.bytes().map(|b| if b == b'_' { b'-' } else { b })).all(same)
}

/// Whether `key` is one of the names of `option` in TOML.
pub(super) fn is_key_of(key: &str, option: &OptionSpec) -> bool {
    option.toml.into_iter().chain(option.names()).any(|name| is_key(key, name))
}

/// Keys of the section `security` that are directives rather than options.
pub(super) const USERS: &str = "users";
pub(super) const RENAME: &str = "rename_command";

/// Reads the file `path`, whose text is `text`, into `loading`.
pub(super) fn read(loading: &mut Loading, text: &str, path: &Path) -> Result<(), ConfigError> {
    let file = File { path, text };
    let table = DeTable::parse(text).map_err(|error| {
        let place = file.place(error.span().unwrap_or(0..0));
        ConfigError::at(&place, format!("not valid TOML: {}", error.message()))
    })?;
    let mut sections: Vec<_> = table.get_ref().iter().collect();
    sections.sort_by_key(|(name, _)| name.span().start);
    for (name, value) in sections {
        let place = file.place(name.span());
        let found = Section::ALL.iter().find(|(_, known, _)| known == name.get_ref());
        match (found, value.get_ref()) {
            (Some((section, ..)), DeValue::Table(keys)) => read_section(loading, &file, *section, keys)?,
            _ => return Err(ConfigError::at(&place, misplaced(name.get_ref(), None))),
        }
    }
    Ok(())
}

fn read_section(
    loading: &mut Loading,
    file: &File,
    section: Section,
    table: &DeTable,
) -> Result<(), ConfigError> {
    let mut keys: Vec<_> = table.iter().collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (key, value) in keys {
        let (place, value) = (file.place(key.span()), value.get_ref());
        let key: &str = key.get_ref();
        if section == Section::Security && (is_key(key, USERS) || is_key(key, RENAME)) {
            read_directive(loading, key, value, &place)?;
            continue;
        }
        let option = OPTIONS.iter().find(|option| option.section == section && is_key_of(key, option));
        let option = option.ok_or_else(|| ConfigError::at(&place, misplaced(key, Some(section))))?;
        if let Some((_, earlier)) = seen.iter().find(|(name, _)| *name == option.name) {
            let fault = Fault::new(format!("the same option as '{earlier}' above"));
            return Err(ConfigError::about(key, None, &fault, &place));
        }
        seen.push((option.name, key));
        let words = words(value).ok_or_else(|| {
            let fault = Fault::new("must be a text, a number, true, false or an array of these");
            ConfigError::about(key, None, &fault, &place)
        })?;
        let words = match (value, words.as_slice()) {
            (DeValue::Array(_), _) => words.iter().flat_map(|word| word.split_ascii_whitespace()).collect(),
            (_, [word]) => vec![word.as_str()],
            _ => Vec::new(),
        };
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        conf::set(loading, option, key, &words, &place)?;
        if option.name == "port" && loading.config.port == 0 {
            loading.port_off = Some(place);
        }
    }
    Ok(())
}

/// What to say of a key that is not known where it stands. `section` is None at the top of the file.
fn misplaced(key: &str, section: Option<Section>) -> String {
    let owner = OPTIONS.iter().find(|option| is_key_of(key, option));
    match (owner, section) {
        (Some(option), _) if Some(option.section) != section => {
            format!("option '{key}' belongs in section [{}]", option.section.name())
        }
        (_, Some(section)) => {
            let inside = OPTIONS.iter().filter(|option| option.section == section);
            let names = inside.flat_map(|option| [option.toml_key(), option.name.replace('-', "_")]);
            unknown("option", key, names)
        }
        _ => unknown("section", key, Section::ALL.iter().map(|(_, name, _)| (*name).to_owned())),
    }
}

/// The words of a value; None for dates and tables.
fn words(value: &DeValue) -> Option<Vec<String>> {
    Some(match value {
        DeValue::String(text) => vec![text.to_string()],
        DeValue::Boolean(value) => vec![if *value { "yes" } else { "no" }.to_owned()],
        DeValue::Integer(number) => {
            let parsed = i128::from_str_radix(number.as_str(), number.radix());
            vec![parsed.map_or_else(|_| number.to_string(), |number| number.to_string())]
        }
        DeValue::Float(number) => vec![number.as_str().to_owned()],
        DeValue::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(|item| words(item.get_ref())).collect();
            items?.concat()
        }
        DeValue::Datetime(_) | DeValue::Table(_) => return None,
    })
}

/// `users = ["name rules", ...]` and `rename_command = { old = "new", ... }`.
fn read_directive(
    loading: &mut Loading,
    key: &str,
    value: &DeValue,
    place: &Place,
) -> Result<(), ConfigError> {
    let refused =
        |form: &str| Err(ConfigError::about(key, None, &Fault::new(format!("must be {form}")), place));
    match value {
        DeValue::Array(items) if is_key(key, USERS) => {
            for item in items.iter() {
                let DeValue::String(user) = item.get_ref() else { return refused("an array of texts") };
                loading.config.users.push(user.to_string());
            }
            Ok(())
        }
        DeValue::Table(names) if is_key(key, RENAME) => {
            for (old, new) in names.iter() {
                let DeValue::String(new) = new.get_ref() else { return refused("a table of texts") };
                loading.config.renamed_commands.push((old.get_ref().to_string(), new.to_string()));
            }
            Ok(())
        }
        _ if is_key(key, USERS) => refused("an array of texts"),
        _ => refused("a table of texts"),
    }
}
