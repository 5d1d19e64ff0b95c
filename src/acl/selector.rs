//! A selector: a set of commands, key patterns and channel patterns. A user has one or more of them; a
//! command may run if one selector allows all of it.

use super::catalog::{Catalog, CommandId};
use super::{Denied, Reason, RuleError, Rules};
use crate::command::keys::find_keys;
use crate::command::spec::{Channels, Flags, Spec, access};
use crate::resp::Args;
use crate::util::glob::{self, Case};
use std::collections::HashMap;

/// Keys may be read.
pub const READ: u8 = 1;
/// Keys may be written.
pub const WRITE: u8 = 2;

/// A pattern of keys and what may be done with those that match.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyPattern {
    permissions: u8,
    pattern: Vec<u8>,
}

/// A set of permissions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Whether the rules begin with all commands (also those to come) or none.
    from_all: bool,
    /// The rules after that, in order: allowed or not, a command or `@category`.
    rules: Vec<(bool, String)>,
    /// One bit for each command.
    allowed: Vec<u64>,
    /// Whether nothing was taken from all commands.
    all_commands: bool,
    /// First arguments with which a command is allowed that is not allowed otherwise.
    first_args: HashMap<CommandId, Vec<Vec<u8>>>,
    all_keys: bool,
    keys: Vec<KeyPattern>,
    all_channels: bool,
    channels: Vec<Vec<u8>>,
}

impl Selector {
    /// Nothing is allowed but, if so given, all channels.
    pub fn new(rules: Rules<'_>) -> Selector {
        let allowed = vec![0; rules.catalog.len().div_ceil(64)];
        Selector { all_channels: rules.all_channels, allowed, ..Selector::default() }
    }

    /// Whether everything is allowed.
    pub fn is_unrestricted(&self) -> bool {
        self.all_commands && self.all_keys && self.all_channels
    }

    /// Whether all channels are allowed.
    pub fn has_all_channels(&self) -> bool {
        self.all_channels
    }

    /// The channel patterns.
    pub fn channels(&self) -> &[Vec<u8>] {
        &self.channels
    }

    // ---- rules ----

    /// Applies one rule.
    pub fn apply(&mut self, rule: &[u8], catalog: &Catalog) -> Result<(), RuleError> {
        match rule.to_ascii_lowercase().as_slice() {
            b"allkeys" | b"~*" => self.set_all_keys(true),
            b"resetkeys" => self.set_all_keys(false),
            b"allchannels" | b"&*" => self.set_all_channels(true),
            b"resetchannels" => self.set_all_channels(false),
            b"allcommands" | b"+@all" => self.set_all_commands(true, catalog),
            b"nocommands" | b"-@all" => self.set_all_commands(false, catalog),
            lower => {
                return match rule {
                    // As Redis has it, before it looks at the rule's form.
                    [b'~' | b'%', ..] if self.all_keys => Err(RuleError::AfterAllKeys),
                    [b'~', pattern @ ..] => self.add_key_pattern(READ | WRITE, pattern),
                    [b'%', rest @ ..] => {
                        let (permissions, pattern) = split_permissions(rest)?;
                        self.add_key_pattern(permissions, pattern)
                    }
                    [b'&', pattern @ ..] => self.add_channel_pattern(pattern),
                    [sign @ (b'+' | b'-'), b'@', ..] => {
                        self.set_category(*sign == b'+', &lower[2..], catalog)
                    }
                    [b'+', ..] => self.allow(&lower[1..], catalog),
                    [b'-', ..] => self.forbid(&lower[1..], catalog),
                    _ => Err(RuleError::Syntax),
                };
            }
        }
        Ok(())
    }

    fn set_all_keys(&mut self, on: bool) {
        self.all_keys = on;
        self.keys.clear();
    }

    fn set_all_channels(&mut self, on: bool) {
        self.all_channels = on;
        self.channels.clear();
    }

    fn set_all_commands(&mut self, on: bool, catalog: &Catalog) {
        self.from_all = on;
        self.all_commands = on;
        self.allowed = vec![if on { u64::MAX } else { 0 }; catalog.len().div_ceil(64)];
        self.rules.clear();
        self.first_args.clear();
    }

    fn add_key_pattern(&mut self, permissions: u8, pattern: &[u8]) -> Result<(), RuleError> {
        if super::has_spaces(pattern) {
            return Err(RuleError::Syntax);
        }
        match self.keys.iter_mut().find(|known| known.pattern == pattern) {
            Some(known) => known.permissions |= permissions,
            None => self.keys.push(KeyPattern { permissions, pattern: pattern.to_vec() }),
        }
        Ok(())
    }

    fn add_channel_pattern(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        if self.all_channels {
            return Err(RuleError::AfterAllChannels);
        }
        if super::has_spaces(pattern) {
            return Err(RuleError::Syntax);
        }
        if !self.channels.iter().any(|known| known == pattern) {
            self.channels.push(pattern.to_vec());
        }
        Ok(())
    }

    fn set_category(&mut self, on: bool, name: &[u8], catalog: &Catalog) -> Result<(), RuleError> {
        let category = Catalog::category(name).ok_or(RuleError::Unknown)?;
        self.note_rule(on, format!("@{}", String::from_utf8_lossy(name)));
        catalog.in_category(category).for_each(|id| self.set_with_subcommands(id, on, catalog));
        Ok(())
    }

    /// Allows a command, a subcommand, or a command with a certain first argument.
    fn allow(&mut self, name: &[u8], catalog: &Catalog) -> Result<(), RuleError> {
        if let Some(at) = name.iter().rposition(|b| *b == b'|') {
            let (command, sub) = (&name[..at], &name[at + 1..]);
            let id = catalog.find(command).ok_or(RuleError::Unknown)?;
            if catalog.spec(id).container().is_some() {
                return Err(RuleError::FirstArgOfSubcommand);
            }
            if sub.is_empty() {
                return Err(RuleError::Syntax);
            }
            if catalog.subcommands(id).is_empty() {
                let args = self.first_args.entry(id).or_default();
                if !args.iter().any(|known| known == sub) {
                    args.push(sub.to_vec());
                }
                self.note_rule(true, String::from_utf8_lossy(name).into_owned());
                return Ok(());
            }
        }
        let id = catalog.find(name).ok_or(RuleError::Unknown)?;
        self.set_with_subcommands(id, true, catalog);
        self.note_rule(true, catalog.spec(id).name.to_owned());
        Ok(())
    }

    fn forbid(&mut self, name: &[u8], catalog: &Catalog) -> Result<(), RuleError> {
        let id = catalog.find(name).ok_or(RuleError::Unknown)?;
        self.set_with_subcommands(id, false, catalog);
        self.note_rule(false, catalog.spec(id).name.to_owned());
        Ok(())
    }

    fn set_with_subcommands(&mut self, id: CommandId, on: bool, catalog: &Catalog) {
        self.first_args.remove(&id);
        self.set_bit(id, on);
        catalog.subcommands(id).iter().for_each(|sub| self.set_bit(*sub, on));
    }

    fn set_bit(&mut self, id: CommandId, on: bool) {
        let (word, bit) = (&mut self.allowed[id / 64], 1 << (id % 64));
        if on {
            *word |= bit;
        } else {
            *word &= !bit;
            self.all_commands = false;
        }
    }

    /// Keeps the rule for showing. Earlier rules that it makes meaningless go: the same one, and those on
    /// its subcommands.
    fn note_rule(&mut self, on: bool, rule: String) {
        self.rules.retain(|(_, old)| match old.strip_prefix(&rule) {
            Some(rest) => !rest.is_empty() && !rest.starts_with('|'),
            None => true,
        });
        self.rules.push((on, rule));
    }

    // ---- checking ----

    /// Whether a command may run with these arguments.
    pub fn check(&self, id: CommandId, spec: &Spec, args: &Args<'_>) -> Result<(), Denied> {
        if !self.all_commands && !spec.flags.has(Flags::NO_AUTH) && !self.allows_command(id, spec, args) {
            return Err(Denied { reason: Reason::Command, index: 0 });
        }
        if !self.all_keys && !spec.keys.is_empty() {
            let mut found = Vec::new();
            // Counts of keys that are no counts are errors that the command answers; what was found is
            // checked all the same.
            find_keys(spec, args, &mut found);
            let keys = found.into_iter().filter(|(_, flags)| flags & access::NOT_KEY == 0);
            for (index, flags) in keys {
                if !self.allows_key(args.get(index), flags) {
                    return Err(Denied { reason: Reason::Key, index });
                }
            }
        }
        self.check_channels(spec, args)
    }

    fn check_channels(&self, spec: &Spec, args: &Args<'_>) -> Result<(), Denied> {
        let (count, match_as) = match spec.channels {
            _ if self.all_channels => return Ok(()),
            Channels::None => return Ok(()),
            Channels::First => (2.min(args.len()), ChannelName::Literal),
            Channels::All => (args.len(), ChannelName::Literal),
            Channels::Patterns => (args.len(), ChannelName::Pattern),
        };
        for index in 1..count {
            if !self.allows_channel(args.get(index), match_as) {
                return Err(Denied { reason: Reason::Channel, index });
            }
        }
        Ok(())
    }

    fn allows_command(&self, id: CommandId, spec: &Spec, args: &Args<'_>) -> bool {
        if self.allowed.get(id / 64).is_some_and(|word| word & (1 << (id % 64)) != 0) {
            return true;
        }
        let first = args.try_get(if spec.container().is_some() { 2 } else { 1 });
        let with_first = |args: &Vec<Vec<u8>>| {
            first.is_some_and(|arg| args.iter().any(|allowed| arg.eq_ignore_ascii_case(allowed)))
        };
        self.first_args.get(&id).is_some_and(with_first)
    }

    fn allows_key(&self, key: &[u8], flags: u32) -> bool {
        let writes = access::INSERT | access::DELETE | access::UPDATE;
        let mut needed = 0;
        if flags & access::ACCESS != 0 {
            needed |= READ;
        }
        if flags & writes != 0 {
            needed |= WRITE;
        }
        let fits = |p: &KeyPattern| p.permissions & needed == needed;
        self.all_keys || self.keys.iter().any(|p| fits(p) && glob::matches(&p.pattern, key, Case::Sensitive))
    }

    /// Whether a channel, or a pattern of channels, may be used.
    pub fn allows_channel(&self, name: &[u8], match_as: ChannelName) -> bool {
        let fits = |allowed: &Vec<u8>| match match_as {
            ChannelName::Pattern => allowed == name,
            ChannelName::Literal => glob::matches(allowed, name, Case::Sensitive),
        };
        self.all_channels || self.channels.iter().any(fits)
    }

    /// Whether every key may be read.
    pub fn reads_all_keys(&self) -> bool {
        let reads_all = |p: &KeyPattern| p.permissions & READ != 0 && p.pattern == b"*";
        self.all_keys || self.keys.iter().any(reads_all)
    }

    // ---- showing ----

    /// The rules on commands.
    pub fn commands_text(&self) -> String {
        let mut text = String::from(if self.from_all { "+@all" } else { "-@all" });
        for (on, rule) in &self.rules {
            text.push_str(if *on { " +" } else { " -" });
            text.push_str(rule);
        }
        text
    }

    /// The rules on keys.
    pub fn keys_text(&self) -> Vec<u8> {
        if self.all_keys {
            return b"~*".to_vec();
        }
        let show = |p: &KeyPattern| {
            let sign: &[u8] = match p.permissions {
                READ => b"%R~",
                WRITE => b"%W~",
                _ => b"~",
            };
            [sign, p.pattern.as_slice()].concat()
        };
        self.keys.iter().map(show).collect::<Vec<_>>().join(&b' ')
    }

    /// The rules on channels.
    pub fn channels_text(&self) -> Vec<u8> {
        if self.all_channels {
            return b"&*".to_vec();
        }
        self.channels.iter().map(|c| [b"&", c.as_slice()].concat()).collect::<Vec<_>>().join(&b' ')
    }

    /// All rules, as a line that makes the same selector.
    pub fn describe(&self) -> Vec<u8> {
        let mut words = vec![self.keys_text()];
        if !self.all_channels {
            words.push(b"resetchannels".to_vec());
        }
        words.push(self.channels_text());
        words.push(self.commands_text().into_bytes());
        words.retain(|word| !word.is_empty());
        words.join(&b' ')
    }
}

/// What the name of a channel is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelName {
    /// A channel: the permission is a pattern that it has to match.
    Literal,
    /// A pattern: the permission has to name it as it is.
    Pattern,
}

/// Cuts `RW~pattern` into permissions and pattern.
fn split_permissions(rest: &[u8]) -> Result<(u8, &[u8]), RuleError> {
    let at = rest.iter().position(|b| *b == b'~').ok_or(RuleError::Syntax)?;
    let mut permissions = 0;
    for letter in &rest[..at] {
        let bit = match letter.to_ascii_uppercase() {
            b'R' => READ,
            b'W' => WRITE,
            _ => return Err(RuleError::Syntax),
        };
        if permissions & bit != 0 {
            return Err(RuleError::Syntax);
        }
        permissions |= bit;
    }
    if permissions == 0 { Err(RuleError::Syntax) } else { Ok((permissions, &rest[at + 1..])) }
}
