//! All command rows joined, and the lookup by name. Built once at start; rows are immutable afterwards and
//! live as long as the process, so a running command may hold its row while it changes the server.

use super::ServerCtx;
use crate::command::keys::fixed_first_key;
use crate::command::spec::{Acl, Flags, Spec};
use crate::command::{CmdResult, DataFn};
use crate::script::flags::ScriptFlags;
use crate::util::text::lowercase;
use std::collections::HashMap;

/// A command on the server.
pub type ServerFn = fn(&mut ServerCtx<'_>) -> CmdResult;

/// How argument 1 names a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptSource {
    /// It is the script.
    Body,
    /// It is its digest.
    Sha,
    /// It is the name of a function.
    Function,
}

/// What runs a command.
#[derive(Clone, Copy)]
pub enum Handler {
    /// A data command.
    Data(DataFn),
    /// A server command.
    Server(ServerFn),
    /// A server command that runs a script: what the script declares counts instead of the row's flags.
    Script(ServerFn, ScriptSource),
    /// Only subcommands run.
    Container,
}

/// A row of the table.
pub struct Command {
    /// Its number: index of its counters.
    pub id: usize,
    /// What it declares.
    pub spec: &'static Spec,
    /// What runs it.
    pub handler: Handler,
    /// All its ACL categories.
    pub acl: Acl,
    /// Argument of the first key, for fetching its memory ahead; 0: it is not at a fixed place.
    pub first_key: usize,
    /// Its subcommands, by lower-case short name.
    pub subcommands: Vec<(&'static str, &'static Command)>,
    /// Of a command that runs scripts: the same with the flags that scripts can declare.
    pub variants: Vec<&'static Command>,
}

impl Command {
    /// Whether only its subcommands run.
    pub fn is_container(&self) -> bool {
        matches!(self.handler, Handler::Container)
    }

    /// Whether the row has a flag.
    #[inline]
    pub fn is(&self, flag: Flags) -> bool {
        self.spec.flags.has(flag)
    }
}

/// Longest name that the fast lookup takes.
const FOLDED_MAX: usize = 16;
/// Slots of the fast lookup: a power of two, sparse enough for short probes.
const SLOTS: usize = 2048;

/// The command table.
pub struct Table {
    commands: Vec<&'static Command>,
    /// Open addressing over folded names.
    slots: Box<[Option<(u128, &'static Command)>; SLOTS]>,
    long: HashMap<String, &'static Command>,
    /// By the names of the rows.
    originals: HashMap<&'static str, &'static Command>,
}

/// A name that cannot be renamed or is already taken.
#[derive(Debug, PartialEq, Eq)]
pub enum RenameError {
    /// There is no such command.
    Unknown,
    /// The new name is taken.
    Taken,
}

impl Table {
    /// Joins the data and server families. `renames` are the rename-command directives; an empty new name
    /// removes the command. The error names the directive at fault.
    pub fn new(renames: &[(String, String)]) -> Result<Table, (String, RenameError)> {
        let data = crate::command::FAMILIES.iter().copied().flatten();
        let server = super::commands::FAMILIES.iter().copied().flatten();
        let mut rows: Vec<(&'static Spec, Handler)> = Vec::new();
        let handler = |spec: &Spec, run: DataFn| match spec.flags.has(Flags::CONTAINER) {
            true => Handler::Container,
            false => Handler::Data(run),
        };
        rows.extend(data.map(|(spec, f)| (spec, handler(spec, *f))));
        rows.extend(server.map(|(spec, handler)| (spec, *handler)));
        let commands = join(rows);
        let mut names: HashMap<String, &'static Command> = HashMap::new();
        for command in commands.iter().filter(|c| c.spec.container().is_none()) {
            let twice = names.insert(command.spec.name.to_string(), command);
            assert!(twice.is_none(), "command {} is declared once", command.spec.name);
        }
        for (old, new) in renames {
            let command = names.remove(&old.to_lowercase()).ok_or((old.clone(), RenameError::Unknown))?;
            if !new.is_empty() && names.insert(new.to_lowercase(), command).is_some() {
                return Err((new.clone(), RenameError::Taken));
            }
        }
        let originals = commands.iter().map(|command| (command.spec.name, *command)).collect();
        let (slots, long) = (Box::new([None; SLOTS]), HashMap::new());
        let mut table = Table { commands, slots, long, originals };
        names.into_iter().for_each(|(name, command)| table.add(name, command));
        Ok(table)
    }

    fn add(&mut self, name: String, command: &'static Command) {
        let Some(folded) = fold(name.as_bytes()) else {
            self.long.insert(name, command);
            return;
        };
        let mut slot = slot_of(folded);
        while self.slots[slot].is_some() {
            slot = (slot + 1) % SLOTS;
        }
        self.slots[slot] = Some((folded, command));
    }

    /// The command of this name, in any case. No allocation for names of usual length.
    #[inline]
    pub fn get(&self, name: &[u8]) -> Option<&'static Command> {
        let Some(folded) = fold(name) else {
            return self.long.get(&lowercase(name)).copied();
        };
        let mut slot = slot_of(folded);
        while let Some((found, command)) = self.slots[slot] {
            if found == folded {
                return Some(command);
            }
            slot = (slot + 1) % SLOTS;
        }
        None
    }

    /// The row that runs for these arguments: the command, or its subcommand.
    #[inline]
    pub fn resolve(&self, args: &crate::resp::Args<'_>) -> Option<&'static Command> {
        let command = self.get(args.get(0))?;
        if command.subcommands.is_empty() {
            return Some(command);
        }
        let Some(sub) = args.try_get(1) else { return Some(command) };
        Some(subcommand(command, sub).unwrap_or(command))
    }

    /// The same by the names of the rows, whatever they were renamed to (logs have both).
    pub fn original(&self, args: &crate::resp::Args<'_>) -> Option<&'static Command> {
        let command = *self.originals.get(lowercase(args.get(0)).as_str())?;
        let sub = args.try_get(1).and_then(|sub| subcommand(command, sub));
        Some(sub.unwrap_or(command))
    }

    /// All rows; a row's index is its id.
    pub fn rows(&self) -> &[&'static Command] {
        &self.commands
    }

    /// Rows that are reachable under a name, without subcommands, by name.
    pub fn named(&self) -> Vec<(String, &'static Command)> {
        let mut named: Vec<_> = self.long.iter().map(|(name, c)| (name.clone(), *c)).collect();
        named.extend(self.slots.iter().flatten().map(|(folded, c)| (unfold(*folded), *c)));
        named.sort_by(|a, b| a.0.cmp(&b.0));
        named
    }
}

/// The subcommand of a container by its short name, in any case.
pub fn subcommand(command: &'static Command, name: &[u8]) -> Option<&'static Command> {
    command.subcommands.iter().find(|(sub, _)| name.eq_ignore_ascii_case(sub.as_bytes())).map(|(_, c)| *c)
}

/// Turns rows into commands, hanging subcommands below their containers.
fn join(rows: Vec<(&'static Spec, Handler)>) -> Vec<&'static Command> {
    let mut commands: Vec<&'static Command> = Vec::with_capacity(rows.len());
    let (subs, tops): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(spec, _)| spec.container().is_some());
    let mut below: HashMap<&str, Vec<(&'static str, &'static Command)>> = HashMap::new();
    for (spec, handler) in subs {
        let command = leak(commands.len(), spec, handler, Vec::new());
        let container = spec.container().expect("it is a subcommand");
        below.entry(container).or_default().push((spec.short_name(), command));
        commands.push(command);
    }
    for (spec, handler) in tops {
        let subcommands = below.remove(spec.name).unwrap_or_default();
        commands.push(leak(commands.len(), spec, handler, subcommands));
    }
    assert!(below.is_empty(), "each subcommand has a container row");
    commands
}

fn leak(
    id: usize,
    spec: &'static Spec,
    handler: Handler,
    subcommands: Vec<(&'static str, &'static Command)>,
) -> &'static Command {
    let row = |spec: &'static Spec, variants| {
        let acl = spec.acl_categories();
        let first_key = match handler {
            // Behind the count of keys, if there are any: memory is fetched ahead for nothing at worst.
            Handler::Script(..) => 3,
            _ => fixed_first_key(spec),
        };
        let subcommands = subcommands.clone();
        Box::leak(Box::new(Command { id, spec, handler, acl, first_key, subcommands, variants }))
    };
    let variant = |flags: ScriptFlags| -> &'static Command {
        let flags = flags.command_flags(spec.flags);
        let spec: &'static Spec = Box::leak(Box::new(Spec { flags, ..*spec }));
        row(spec, Vec::new())
    };
    let variants = match handler {
        Handler::Script(..) => ScriptFlags::all_that_count().map(variant).collect(),
        _ => Vec::new(),
    };
    row(spec, variants)
}

/// A name of at most 16 bytes as a number, letters lowered.
#[inline]
fn fold(name: &[u8]) -> Option<u128> {
    if name.len() > FOLDED_MAX || name.is_empty() {
        return None;
    }
    let word = word_of(name);
    // Bit 7 of each byte is set where it is in A..=Z, then moved to the case bit.
    const ONES: u128 = u128::MAX / 255;
    let low = word & (ONES * 0x7f);
    let above_at = low + ONES * (0x7f - 0x40);
    let above_z = low + ONES * (0x7f - 0x5a);
    let upper = (above_at & !above_z & !word) & (ONES * 0x80);
    Some(word | (upper >> 2))
}

/// The bytes of a name of 1 to 16 bytes, the first one lowest. Two loads that may overlap: copying so few
/// bytes to where they are loaded again would cost more than the search.
#[inline]
fn word_of(name: &[u8]) -> u128 {
    let len = name.len();
    let eight = |at: usize| u128::from(u64::from_le_bytes(*name[at..].first_chunk().expect("8 bytes")));
    let four = |at: usize| u128::from(u32::from_le_bytes(*name[at..].first_chunk().expect("4 bytes")));
    let one = |at: usize| u128::from(name[at]) << (8 * at);
    match len {
        8.. => eight(0) | eight(len - 8) << (8 * (len - 8)),
        4.. => four(0) | four(len - 4) << (8 * (len - 4)),
        _ => one(0) | one(len / 2) | one(len - 1),
    }
}

fn unfold(folded: u128) -> String {
    let bytes = folded.to_le_bytes();
    let len = bytes.iter().position(|b| *b == 0).unwrap_or(FOLDED_MAX);
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

#[inline]
fn slot_of(folded: u128) -> usize {
    let mixed = (folded as u64 ^ (folded >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 53) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_lengths_are_whole_words() {
        let name = b"ABCDEFGHIJKLMNOP";
        for len in 1..=FOLDED_MAX {
            assert_eq!(word_of(&name[..len]).to_le_bytes()[..len], name[..len]);
            let folded = fold(&name[..len]).expect("it is short");
            assert_eq!(unfold(folded).as_bytes(), name[..len].to_ascii_lowercase());
        }
    }

    #[test]
    fn names_fold_by_ascii_rules() {
        for name in ["GET", "gEt", "config", "PFCOUNT", "SORT_RO", "a[z{@`", "ZREVRANGEBYSCORE"] {
            assert_eq!(fold(name.as_bytes()), fold(name.to_ascii_lowercase().as_bytes()));
            assert_eq!(unfold(fold(name.as_bytes()).unwrap()), name.to_ascii_lowercase());
        }
        assert_ne!(fold(b"g@t"), fold(b"g`t"));
        assert_ne!(fold(b"[a"), fold(b"{a"));
    }

    #[test]
    fn every_row_is_found_by_its_name() {
        let table = Table::new(&[]).unwrap();
        for command in table.rows() {
            match command.spec.container() {
                None => {
                    let upper = command.spec.name.to_ascii_uppercase();
                    assert_eq!(table.get(upper.as_bytes()).unwrap().id, command.id);
                }
                Some(container) => {
                    let sub = command.spec.short_name().to_ascii_uppercase();
                    let container = table.get(container.as_bytes()).unwrap();
                    assert_eq!(subcommand(container, sub.as_bytes()).unwrap().id, command.id);
                }
            }
        }
        assert!(table.get(b"nosuch").is_none());
    }
}
