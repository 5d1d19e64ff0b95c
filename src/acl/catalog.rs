//! The commands as ACL rules name them: by full name (`config|get`) and by category. Made once from the rows;
//! renamed commands keep their own names here.

use crate::command::spec::{ACL_NAMES, Acl, Spec};
use std::collections::HashMap;

/// Number of a command: the index of its row.
pub type CommandId = usize;

/// All commands by name, category and container.
pub struct Catalog {
    specs: Vec<&'static Spec>,
    by_name: HashMap<&'static str, CommandId>,
    subcommands: HashMap<CommandId, Vec<CommandId>>,
}

impl Catalog {
    /// The commands of these rows, numbered in their order.
    pub fn new(specs: Vec<&'static Spec>) -> Catalog {
        let by_name: HashMap<_, _> = specs.iter().enumerate().map(|(id, spec)| (spec.name, id)).collect();
        let mut subcommands: HashMap<CommandId, Vec<CommandId>> = HashMap::new();
        for (id, spec) in specs.iter().enumerate() {
            if let Some(container) = spec.container() {
                subcommands.entry(by_name[container]).or_default().push(id);
            }
        }
        Catalog { specs, by_name, subcommands }
    }

    /// Number of commands, subcommands included.
    pub fn len(&self) -> usize {
        self.specs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.specs.is_empty()
    }

    /// The command of this full name, in any case.
    pub fn find(&self, name: &[u8]) -> Option<CommandId> {
        let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
        self.by_name.get(name.as_str()).copied()
    }

    /// The row of a command.
    pub fn spec(&self, id: CommandId) -> &'static Spec {
        self.specs[id]
    }

    /// The subcommands of a container.
    pub fn subcommands(&self, id: CommandId) -> &[CommandId] {
        self.subcommands.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The category of this name, in any case.
    pub fn category(name: &[u8]) -> Option<Acl> {
        ACL_NAMES.iter().find(|(_, known)| name.eq_ignore_ascii_case(known.as_bytes())).map(|(acl, _)| *acl)
    }

    /// The commands of a category: containers, then subcommands of others.
    pub fn in_category(&self, category: Acl) -> impl Iterator<Item = CommandId> {
        let rows = self.specs.iter().enumerate();
        rows.filter(move |(_, spec)| spec.acl_categories().any(category)).map(|(id, _)| id)
    }
}
