//! redis.conf syntax: one directive a line, the name and its words, quotes as in redis-cli. Standard input
//! and the options of the command line come as such lines, too. It knows the directives that are no options
//! (`include`, `user`, `rename-command`, ...); what an option's words mean is the option's affair.

use super::error::{ConfigError, Place, option_names, shown, unknown};
use super::load::{Loading, unreadable};
use super::setting::Fault;
use super::spec::{MANY, OptionSpec};
use super::{lookup, lossy};
use crate::util::glob::{Case, matches};
use crate::util::quote::{join_args, split_args};
use std::path::{Path, PathBuf};

/// Files may include files this deep; deeper can only be a circle.
const INCLUDE_DEPTH_MAX: usize = 16;

/// Options of old versions that are accepted and ignored, as Redis does: they take one word.
const RETIRED: [&str; 3] = ["list-max-ziplist-entries", "list-max-ziplist-value", "lua-replicate-commands"];

/// Reads the lines of `text` into `loading`. `place` says which file they are from.
pub(super) fn read(loading: &mut Loading, text: &[u8], place: &Place) -> Result<(), ConfigError> {
    read_at_depth(loading, text, place, 0)
}

fn read_at_depth(loading: &mut Loading, text: &[u8], place: &Place, depth: usize) -> Result<(), ConfigError> {
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let place = Place { line: Some(index + 1), ..place.clone() };
        let source = |error: ConfigError| match error.file == place.file && error.line == place.line {
            true => error.with_source(visible(line)),
            false => error,
        };
        let words = split_args(line)
            .ok_or_else(|| source(ConfigError::at(&place, "Unbalanced quotes in configuration line")))?;
        if let Some((name, args)) = words.split_first() {
            let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            let name = lossy(name).to_ascii_lowercase();
            match lookup(name.as_bytes()) {
                Some(option) => set(loading, option, &name, &args, &place),
                None => direct(loading, &name, &args, &place, depth),
            }
            .map_err(source)?;
        }
    }
    Ok(())
}

/// The line as a message may show it.
fn visible(line: &[u8]) -> String {
    let name = line.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
    match lookup(name) {
        Some(option) if name.len() < line.len() => {
            let value = lossy(line[name.len()..].trim_ascii_start());
            format!("{} {}", lossy(name), shown(option, &value))
        }
        _ => lossy(line),
    }
}

/// Sets `option` from the words of a line. Options of several words take them in one word as well.
pub(super) fn set(
    loading: &mut Loading,
    option: &'static OptionSpec,
    name: &str,
    args: &[&[u8]],
    place: &Place,
) -> Result<(), ConfigError> {
    let split = match args {
        [word] if option.has(MANY) && !word.is_empty() => split_args(word),
        _ if !option.has(MANY) && args.len() != 1 => {
            return Err(ConfigError::about(name, None, &Fault::count(), place));
        }
        _ => None,
    };
    match split {
        Some(words) => {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            loading.set(option, name, &words, place)
        }
        None => loading.set(option, name, args, place),
    }
}

/// Carries out a directive that is no option.
fn direct(
    loading: &mut Loading,
    name: &str,
    args: &[&[u8]],
    place: &Place,
    depth: usize,
) -> Result<(), ConfigError> {
    let refused = |reason: &str| Err(ConfigError::about(name, None, &Fault::new(reason), place));
    match (name, args) {
        ("include", [pattern]) => include(loading, &lossy(pattern), place, depth + 1),
        ("rename-command", [old, new]) => {
            loading.config.renamed_commands.push((lossy(old), lossy(new)));
            Ok(())
        }
        ("user", [_, ..]) => {
            loading.config.users.push(lossy(&join_args(args.iter().copied())));
            Ok(())
        }
        ("loadmodule", [_, ..]) => refused("modules are not supported"),
        ("sentinel", _) => refused("sentinel mode is not supported"),
        (_, [_]) if RETIRED.contains(&name) => {
            loading.warn(place, name, "accepted, has no effect: Redis has given it up");
            Ok(())
        }
        _ => {
            let plain = match ["include", "rename-command", "user", "loadmodule"].contains(&name) {
                true => format!("{name}: wrong number of arguments"),
                false => unknown("option", name, option_names()),
            };
            let reply = "Bad directive or wrong number of arguments".to_owned();
            let fault = Fault { reply, plain: Some(plain) };
            Err(ConfigError::about("", None, &fault, place))
        }
    }
}

/// Reads the files that `pattern` means: relative to the directory the server would be in by now. A pattern
/// with wildcards may match nothing.
fn include(loading: &mut Loading, pattern: &str, place: &Place, depth: usize) -> Result<(), ConfigError> {
    if depth > INCLUDE_DEPTH_MAX {
        return Err(ConfigError::about("include", None, &Fault::new("files include each other"), place));
    }
    let path = loading.config.dir.join(pattern);
    let files = if pattern.contains(['*', '?', '[']) { expand(&path) } else { vec![path] };
    for file in files {
        let place = Place { file: Some(file.clone()), line: None };
        let text = std::fs::read(&file).map_err(|error| unreadable(&place, &error))?;
        read_at_depth(loading, &text, &place, depth)?;
    }
    Ok(())
}

/// The files that match a path with wildcards, in the order of their names.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let name = part.as_os_str().as_encoded_bytes();
        if !name.iter().any(|byte| b"*?[".contains(byte)) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let mut next = Vec::new();
        for directory in &found {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            next.extend(entries.map(|entry| entry.path()).filter(|path| {
                let entry = path.file_name().unwrap_or_default().as_encoded_bytes();
                let hidden = entry.starts_with(b".") && !name.starts_with(b".");
                !hidden && matches(name, entry, Case::Sensitive)
            }));
        }
        next.sort();
        found = next;
    }
    found.retain(|path| path.exists());
    found
}
