//! A user: whether and how one may log in as it, and its selectors. Users are never changed in place: rules
//! are applied to a copy that replaces the old one, so that a rule in error changes nothing.

use super::catalog::{Catalog, CommandId};
use super::selector::{ChannelName, Selector};
use super::{Denied, RuleError};
use crate::command::spec::Spec;
use crate::pubsub::{Kind, Subscriptions};
use crate::resp::Args;
use crate::util::crc::sha256_hex;
use crate::util::quote::split_args;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: Vec<u8>,
    /// Whether one may log in as it.
    pub enabled: bool,
    /// Whether any password will do.
    pub nopass: bool,
    /// Whether the payloads of its RESTOREs are looked through.
    pub sanitizes: bool,
    /// SHA-256 of its passwords, as hex digits.
    passwords: Vec<String>,
    /// Its selectors: the first one always exists.
    selectors: Vec<Selector>,
}

/// What rules need to know.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// The commands.
    pub catalog: &'a Catalog,
    /// `acl-pubsub-default`: whether new selectors allow all channels.
    pub all_channels: bool,
}

impl User {
    /// A user that may do nothing.
    pub fn new(name: &[u8], rules: Rules<'_>) -> User {
        User {
            name: name.to_vec(),
            enabled: false,
            nopass: false,
            sanitizes: true,
            passwords: Vec::new(),
            selectors: vec![Selector::new(rules)],
        }
    }

    /// The selectors, the user's own rules first.
    pub fn selectors(&self) -> &[Selector] {
        &self.selectors
    }

    /// The digests of the passwords.
    pub fn passwords(&self) -> &[String] {
        &self.passwords
    }

    /// Whether nothing has to be checked.
    pub fn is_unrestricted(&self) -> bool {
        self.selectors.iter().any(Selector::is_unrestricted)
    }

    /// Whether this password lets one in. The time it takes does not depend on where passwords differ.
    pub fn accepts(&self, password: &[u8]) -> bool {
        if !self.enabled {
            return false;
        }
        if self.nopass {
            return true;
        }
        let given = sha256_hex(password);
        let same = |known: &String| {
            known.bytes().zip(given.bytes()).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
                && known.len() == given.len()
        };
        self.passwords.iter().filter(|known| same(known)).count() > 0
    }

    // ---- checking ----

    /// Whether a command may run. Of the selectors that refuse it the one that came furthest gives the
    /// reason.
    pub fn check(&self, id: CommandId, spec: &Spec, args: &Args<'_>) -> Result<(), Denied> {
        let mut nearest: Option<Denied> = None;
        for selector in &self.selectors {
            let Err(denied) = selector.check(id, spec, args) else { return Ok(()) };
            if nearest.is_none_or(|old| (denied.reason, denied.index) > (old.reason, old.index)) {
                nearest = Some(denied);
            }
        }
        Err(nearest.expect("a user has a selector"))
    }

    /// Whether a command may run, and may beside its own keys read all others (SORT's BY and GET).
    pub fn reads_all_keys_in(&self, id: CommandId, spec: &Spec, args: &Args<'_>) -> bool {
        self.selectors.iter().any(|s| s.reads_all_keys() && s.check(id, spec, args).is_ok())
    }

    /// Whether a client that is subscribed to these names has to go when its user `self` becomes `new`.
    pub fn loses_channels(&self, new: &User, subscriptions: &Subscriptions) -> bool {
        if new.selectors.iter().any(Selector::has_all_channels) {
            return false;
        }
        let is_kept = |channel: &Vec<u8>| new.selectors.iter().any(|s| s.channels().contains(channel));
        let keeps = |old: &Selector| !old.has_all_channels() && old.channels().iter().all(is_kept);
        if self.selectors.iter().all(keeps) {
            return false;
        }
        let allowed = |name: &[u8], kind: Kind| {
            let match_as = if kind == Kind::Pattern { ChannelName::Pattern } else { ChannelName::Literal };
            new.selectors.iter().any(|s| s.allows_channel(name, match_as))
        };
        let refused = |kind: Kind| subscriptions.iter(kind).any(|name| !allowed(name, kind));
        [Kind::Channel, Kind::Pattern, Kind::Shard].into_iter().any(refused)
    }

    // ---- rules ----

    /// Applies one rule; words in brackets are one.
    pub fn apply(&mut self, rule: &[u8], rules: Rules<'_>) -> Result<(), RuleError> {
        match rule.to_ascii_lowercase().as_slice() {
            b"" => {}
            b"on" => self.enabled = true,
            b"off" => self.enabled = false,
            b"sanitize-payload" => self.sanitizes = true,
            b"skip-sanitize-payload" => self.sanitizes = false,
            b"nopass" => {
                self.nopass = true;
                self.passwords.clear();
            }
            b"resetpass" => {
                self.nopass = false;
                self.passwords.clear();
            }
            b"clearselectors" => self.selectors.truncate(1),
            b"reset" => *self = User::new(&self.name, rules),
            _ => match rule {
                [b'>', password @ ..] => self.add_password(sha256_hex(password)),
                [b'#', digest @ ..] => self.add_password(check_digest(digest)?),
                [b'<', password @ ..] => return self.remove_password(&sha256_hex(password)),
                [b'!', digest @ ..] => return self.remove_password(&check_digest(digest)?),
                [b'(', inner @ .., b')'] => {
                    let mut selector = Selector::new(rules);
                    for word in split_args(inner).ok_or(RuleError::Syntax)? {
                        selector.apply(&word, rules.catalog)?;
                    }
                    self.selectors.push(selector);
                }
                _ => return self.selectors[0].apply(rule, rules.catalog),
            },
        }
        Ok(())
    }

    fn add_password(&mut self, digest: String) {
        if !self.passwords.contains(&digest) {
            self.passwords.push(digest);
        }
        self.nopass = false;
    }

    fn remove_password(&mut self, digest: &str) -> Result<(), RuleError> {
        let at = self.passwords.iter().position(|known| known == digest).ok_or(RuleError::NoSuchPassword)?;
        self.passwords.remove(at);
        Ok(())
    }

    // ---- showing ----

    /// The flags as rules name them.
    pub fn flags(&self) -> impl Iterator<Item = &'static str> {
        let flags = [
            (self.enabled, "on"),
            (!self.enabled, "off"),
            (self.nopass, "nopass"),
            (!self.sanitizes, "skip-sanitize-payload"),
            (self.sanitizes, "sanitize-payload"),
        ];
        flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name)
    }

    /// All rules, as a line that makes the same user.
    pub fn describe(&self) -> Vec<u8> {
        let mut words: Vec<Vec<u8>> = self.flags().map(|flag| flag.into()).collect();
        words.extend(self.passwords.iter().map(|digest| format!("#{digest}").into_bytes()));
        words.push(self.selectors[0].describe());
        words.extend(self.selectors[1..].iter().map(|s| [b"(", s.describe().as_slice(), b")"].concat()));
        words.join(&b' ')
    }
}

fn check_digest(digest: &[u8]) -> Result<String, RuleError> {
    let fits = digest.len() == 64 && digest.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if fits { Ok(String::from_utf8_lossy(digest).into_owned()) } else { Err(RuleError::Digest) }
}
