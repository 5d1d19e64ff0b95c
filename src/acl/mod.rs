//! Access control: users, what they may do, and what was refused. It knows the rows of commands, but no
//! server, no client and no file: texts of ACL files are handed in and out. Rules and texts are those of
//! Redis 7.4.

mod catalog;
mod log;
mod selector;
#[cfg(test)]
mod tests;
mod user;

pub use catalog::{Catalog, CommandId};
pub use log::{AclLog, Context, Entry, Reason, Refusal};
pub use selector::{ChannelName, Selector};
pub use user::{Rules, User};

use crate::util::quote::split_args;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The user that every connection starts as.
pub const DEFAULT_USER: &[u8] = b"default";

/// A refused command: why, and which argument was at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Why.
    pub reason: Reason,
    /// Index of the key or channel; 0 for the command itself.
    pub index: usize,
}

/// A rule that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleError {
    /// There is no such command or category.
    Unknown,
    /// It is no rule.
    Syntax,
    /// A pattern of keys, though all are allowed.
    AfterAllKeys,
    /// A pattern of channels, though all are allowed.
    AfterAllChannels,
    /// The password to be removed does not exist.
    NoSuchPassword,
    /// A digest that is none.
    Digest,
    /// `+config|get|x`.
    FirstArgOfSubcommand,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RuleError::Unknown => "Unknown command or category name in ACL",
            RuleError::Syntax => "Syntax error",
            RuleError::AfterAllKeys => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have \
                 any effect. Try 'resetkeys' to start with an empty list of patterns"
            }
            RuleError::AfterAllChannels => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not \
                 have any effect. Try 'resetchannels' to start with an empty list of channels"
            }
            RuleError::NoSuchPassword => "The password you are trying to remove from the user does not exist",
            RuleError::Digest => {
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal \
                 characters"
            }
            RuleError::FirstArgOfSubcommand => "Allowing first-arg of a subcommand is not supported",
        })
    }
}

/// Why rules were not applied; nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RulesError {
    /// A bracket was opened with this word and never closed.
    Unmatched(Vec<u8>),
    /// This rule is in error.
    Rule(Vec<u8>, RuleError),
}

/// Users by name.
pub type Users = BTreeMap<Vec<u8>, Arc<User>>;

/// Users, commands and the log.
pub struct Acl {
    users: Users,
    catalog: Catalog,
    /// What was refused lately.
    pub log: AclLog,
}

impl Acl {
    /// The user `default` alone, who may do everything without a password.
    pub fn new(catalog: Catalog) -> Acl {
        let mut acl = Acl { users: Users::new(), catalog, log: AclLog::default() };
        let user = acl.open_default_user();
        acl.users.insert(DEFAULT_USER.to_vec(), Arc::new(user));
        acl
    }

    fn rules(&self, all_channels: bool) -> Rules<'_> {
        Rules { catalog: &self.catalog, all_channels }
    }

    fn open_default_user(&self) -> User {
        let rules = self.rules(false);
        let mut user = User::new(DEFAULT_USER, rules);
        for rule in ["+@all", "~*", "&*", "on", "nopass"] {
            user.apply(rule.as_bytes(), rules).expect("the rules of the default user are rules");
        }
        user
    }

    /// The commands by name and category.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// All users, by name.
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// A user.
    pub fn user(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// The user that connections start as.
    pub fn default_user(&self) -> &Arc<User> {
        &self.users[DEFAULT_USER]
    }

    /// Whether connections have to log in before they may do anything.
    pub fn must_authenticate(&self) -> bool {
        let default = self.default_user();
        !default.nopass || !default.enabled
    }

    /// The user with this name and password, if one may log in as it.
    pub fn authenticate(&self, name: &[u8], password: &[u8]) -> Option<&Arc<User>> {
        self.users.get(name).filter(|user| user.accepts(password))
    }

    /// The user as it would be with these rules on top: a new one if there is none of this name.
    pub fn changed_user(&self, name: &[u8], words: &[&[u8]], all_channels: bool) -> Result<User, RulesError> {
        let rules = self.rules(all_channels);
        let mut user = self.users.get(name).map_or_else(|| User::new(name, rules), |u| User::clone(u));
        for rule in merge_brackets(words).map_err(|at| RulesError::Unmatched(words[at].to_vec()))? {
            user.apply(&rule, rules).map_err(|error| RulesError::Rule(rule, error))?;
        }
        Ok(user)
    }

    /// Puts a user in the place of the one of its name.
    pub fn replace(&mut self, user: User) -> Arc<User> {
        let user = Arc::new(user);
        self.users.insert(user.name.clone(), user.clone());
        user
    }

    /// Puts all users in the place of the present ones; a default user is added if there is none.
    pub fn replace_all(&mut self, mut users: Users) {
        if !users.contains_key(DEFAULT_USER) {
            users.insert(DEFAULT_USER.to_vec(), Arc::new(self.open_default_user()));
        }
        self.users = users;
    }

    /// Removes a user. The default user stays.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        assert_ne!(name, DEFAULT_USER, "the default user stays");
        self.users.remove(name).is_some()
    }

    /// The default user with this as its only password, or open without one (`requirepass`).
    pub fn default_with_password(&self, password: &[u8]) -> User {
        let rules = self.rules(false);
        let mut user = User::clone(self.default_user());
        let rule = if password.is_empty() { b"nopass".to_vec() } else { [b">", password].concat() };
        for rule in [b"resetpass", rule.as_slice()] {
            user.apply(rule, rules).expect("passwords are rules");
        }
        user
    }

    /// One line for each user, as in ACL files: `user name rules`.
    pub fn lines(&self) -> Vec<Vec<u8>> {
        let line = |u: &Arc<User>| [b"user ", u.name.as_slice(), b" ", &u.describe()].concat();
        self.users.values().map(line).collect()
    }

    /// Adds the users of `user` directives, each its name and rules. The error says what is wrong where.
    pub fn add_configured(&mut self, lines: &[String], all_channels: bool) -> Result<(), String> {
        let mut seen: Vec<Vec<u8>> = Vec::new();
        for line in lines {
            let words = split_args(line.as_bytes()).unwrap_or_default();
            let [name, rules @ ..] = words.as_slice() else { return Err("user: a name is missing".into()) };
            let shown = String::from_utf8_lossy(name);
            if has_spaces(name) {
                return Err("Spaces not allowed in ACL usernames".into());
            }
            if seen.contains(name) {
                return Err(format!("Error in user declaration '{shown}': {DUPLICATE}"));
            }
            seen.push(name.clone());
            let mut words: Vec<&[u8]> = if name == DEFAULT_USER { vec![b"reset"] } else { Vec::new() };
            words.extend(rules.iter().map(Vec::as_slice));
            let user = self.changed_user(name, &words, all_channels).map_err(|error| match error {
                RulesError::Unmatched(word) => {
                    let word = String::from_utf8_lossy(&word);
                    format!("Unmatched parenthesis in acl selector starting at '{word}'.")
                }
                // Rules may be passwords: only names of commands are shown.
                RulesError::Rule(rule, RuleError::Unknown) => {
                    let rule = String::from_utf8_lossy(&rule);
                    let error = RuleError::Unknown;
                    format!("Error loading ACL rule '{rule}' for the user named '{shown}': {error}")
                }
                RulesError::Rule(_, error) => format!("Error in user declaration '{shown}': {error}"),
            })?;
            if !user.enabled {
                ::log::info!(
                    target: "aikv",
                    "The user '{shown}' is disabled (there is no 'on' modifier in the user description). \
                     Make sure this is not a configuration error."
                );
            }
            self.replace(user);
        }
        Ok(())
    }

    /// The users of the text of an ACL file. The error tells of every line that is wrong.
    pub fn parse_file(&self, file: &str, text: &[u8], all_channels: bool) -> Result<Users, String> {
        let rules = self.rules(all_channels);
        let mut users = Users::new();
        let mut errors = String::new();
        for (i, line) in text.split(|b| *b == b'\n').enumerate() {
            let line = line.trim_ascii();
            if !line.is_empty() {
                parse_line(&format!("{file}:{}", i + 1), i + 1, line, rules, &mut users, &mut errors);
            }
        }
        if errors.is_empty() {
            return Ok(users);
        }
        errors.push_str(
            "WARNING: ACL errors detected, no change to the previously active ACL rules was performed",
        );
        Err(errors)
    }
}

/// The same user twice.
const DUPLICATE: &str = "Duplicate user found. A user can only be defined once in config files";

fn parse_line(
    place: &str,
    number: usize,
    line: &[u8],
    rules: Rules<'_>,
    users: &mut Users,
    errors: &mut String,
) {
    let words: Vec<&[u8]> = line.split(|b| *b == b' ').filter(|word| !word.is_empty()).collect();
    let [b"user", name, words @ ..] = words.as_slice() else {
        errors.push_str(&format!("{place} should start with user keyword followed by the username. "));
        return;
    };
    let shown = String::from_utf8_lossy(name);
    if has_spaces(name) {
        errors.push_str(&format!("'{place}: username '{shown}' contains invalid characters. "));
        return;
    }
    if users.contains_key(*name) {
        errors.push_str(&format!("WARNING: Duplicate user '{shown}' found on line {number}. "));
        return;
    }
    let mut user = User::new(name, rules);
    let Ok(merged) = merge_brackets(words) else {
        errors.push_str(&format!("{place}: Unmatched parenthesis in selector definition."));
        return;
    };
    let mut told = false;
    for rule in merged {
        match user.apply(rule.trim_ascii(), rules) {
            Ok(()) => {}
            Err(RuleError::Unknown) => {
                let rule = String::from_utf8_lossy(&rule);
                let error = RuleError::Unknown;
                errors.push_str(&format!("{place}: Error in applying operation '{rule}': {error}. "));
            }
            // Of others only the first is told: it may cause the rest.
            Err(error) if !told => {
                errors.push_str(&format!("{place}: {error}. "));
                told = true;
            }
            Err(_) => {}
        }
    }
    users.insert(name.to_vec(), Arc::new(user));
}

/// Joins the words between brackets to one rule each. The error is the index of a bracket that stays open.
fn merge_brackets(words: &[&[u8]]) -> Result<Vec<Vec<u8>>, usize> {
    let mut merged: Vec<Vec<u8>> = Vec::new();
    let mut open: Option<usize> = None;
    for (i, word) in words.iter().enumerate() {
        match open {
            Some(_) => {
                let selector = merged.last_mut().expect("a selector is open");
                selector.push(b' ');
                selector.extend_from_slice(word);
                if word.ends_with(b")") {
                    open = None;
                }
            }
            None => {
                open = (word.starts_with(b"(") && !word.ends_with(b")")).then_some(i);
                merged.push(word.to_vec());
            }
        }
    }
    open.map_or(Ok(merged), Err)
}

/// Whether a name or pattern could not be written into a line of rules.
pub fn has_spaces(word: &[u8]) -> bool {
    word.iter().any(|b| b.is_ascii_whitespace() || matches!(b, 0 | 0x0b))
}
