//! What a command declares about itself: one const [`Spec`] row beside its function. COMMAND, COMMAND
//! DOCS, ACL, cluster routing and docs/commands.md derive from the row; nobody compares a command's name.
//! Names and meanings of flags, categories and key specs are those of Redis' COMMAND INFO.

/// Everything that is known of a command without running it. Subcommands are rows named `config|get`.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Lower-case name; `container|sub` for subcommands.
    pub name: &'static str,
    /// Number of arguments with the name; negative: at least that many.
    pub arity: i32,
    /// What the core asks about the command.
    pub flags: Flags,
    /// ACL categories beyond those that follow from the flags.
    pub acl: Acl,
    /// Where its keys are.
    pub keys: &'static [KeySpec],
    /// Index of the first argument that is a member of the collection at the first key (a field of a hash),
    /// so that its memory can be fetched ahead; 0: none.
    pub member: usize,
    /// Which arguments are channels (ACL).
    pub channels: Channels,
    /// The family it is documented under.
    pub group: &'static str,
    /// Version of Redis that brought it.
    pub since: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Time complexity.
    pub complexity: &'static str,
    /// Arguments in Redis' notation: `key [NX | XX] [EX seconds]`; the COMMAND DOCS tree is read from it.
    pub usage: &'static str,
    /// Hints for clients and proxies (COMMAND INFO's tips).
    pub tips: &'static [&'static str],
    /// Set for deprecated commands.
    pub deprecated: Option<Deprecated>,
    /// Later changes: version and what changed.
    pub history: &'static [(&'static str, &'static str)],
    /// What a blocked call of it answers at its deadline, or at once inside MULTI and scripts.
    pub on_timeout: OnTimeout,
    /// Finds the keys where the key specs cannot (SORT's STORE, EVAL-like forms are within the specs).
    pub get_keys: Option<GetKeys>,
}

/// A row to take the rest from: `Spec { name: .., ..SPEC }`.
pub const SPEC: Spec = Spec {
    name: "",
    arity: 0,
    flags: Flags(0),
    acl: Acl(0),
    keys: &[],
    member: 0,
    channels: Channels::None,
    group: "generic",
    since: "1.0.0",
    summary: "",
    complexity: "O(1)",
    usage: "",
    tips: &[],
    deprecated: None,
    history: &[],
    on_timeout: OnTimeout::Null,
    get_keys: None,
};

/// The arguments of a command that are channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// None, or ones for which nobody needs a permission (UNSUBSCRIBE).
    None,
    /// The first argument.
    First,
    /// All arguments.
    All,
    /// All arguments are patterns: a permission must name them literally.
    Patterns,
}

/// Since when and by what a command is superseded.
#[derive(Clone, Copy, Debug)]
pub struct Deprecated {
    /// Version of Redis.
    pub since: &'static str,
    /// What to use instead.
    pub replaced_by: &'static str,
}

/// The reply of a blocking command whose time is over, or that may not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTimeout {
    /// Null.
    Null,
    /// Null array.
    NullArray,
    /// Null array at the deadline, null where it may not wait at all (BLMOVE).
    NullArrayOrNull,
}

/// Finds keys in an argv: pushes (argument index, access flags).
pub type GetKeys = fn(&crate::resp::Args<'_>, &mut Vec<(usize, u32)>) -> bool;

/// A set of command flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u64);

/// A set of ACL categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acl(pub u64);

macro_rules! bits {
    ($type:ident, $table:ident, $doc:literal; $($(#[$meta:meta])* $name:ident = $bit:expr, $text:expr;)*) => {
        impl $type {
            $($(#[$meta])* pub const $name: $type = $type(1 << $bit);)*

            /// Whether all bits of `other` are set.
            #[inline]
            pub const fn has(self, other: $type) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether any bit of `other` is set.
            #[inline]
            pub const fn any(self, other: $type) -> bool {
                self.0 & other.0 != 0
            }

            /// Both sets together (const).
            pub const fn with(self, other: $type) -> $type {
                $type(self.0 | other.0)
            }
        }

        impl std::ops::BitOr for $type {
            type Output = $type;
            fn bitor(self, other: $type) -> $type {
                self.with(other)
            }
        }

        #[doc = $doc]
        pub const $table: &[($type, &str)] = &[$(($type::$name, $text)),*];
    };
}

bits! { Flags, FLAG_NAMES, "Flags with their names in COMMAND INFO; an empty name is internal.";
    /// May change the data set.
    WRITE = 0, "write";
    /// Only reads keys.
    READONLY = 1, "readonly";
    /// Refused when out of memory.
    DENYOOM = 2, "denyoom";
    /// An operator's command.
    ADMIN = 3, "admin";
    /// Part of publish/subscribe.
    PUBSUB = 4, "pubsub";
    /// Not for scripts.
    NOSCRIPT = 5, "noscript";
    /// May block its client.
    BLOCKING = 6, "blocking";
    /// Works while data is loaded.
    LOADING = 7, "loading";
    /// Works on a replica with stale data.
    STALE = 8, "stale";
    /// Not shown to MONITOR.
    SKIP_MONITOR = 9, "skip_monitor";
    /// Not recorded in the slow log.
    SKIP_SLOWLOG = 10, "skip_slowlog";
    /// Implies ASKING in a cluster.
    ASKING = 11, "asking";
    /// Constant or logarithmic time.
    FAST = 12, "fast";
    /// Works before authentication.
    NO_AUTH = 13, "no_auth";
    /// May be replicated though it is no write.
    MAY_REPLICATE = 14, "";
    /// May come without keys although it has key specs.
    NO_MANDATORY_KEYS = 15, "no_mandatory_keys";
    /// Protected by an enable-...-command option.
    PROTECTED = 16, "";
    /// Works while a script is busy.
    ALLOW_BUSY = 17, "allow_busy";
    /// Not while data is loaded in the background.
    NO_ASYNC_LOADING = 18, "no_async_loading";
    /// Not inside MULTI.
    NO_MULTI = 19, "no_multi";
    /// Key specs do not find all keys (COMMAND INFO finds this out itself, see `keys::legacy_range`).
    MOVABLEKEYS = 20, "movablekeys";
    /// Touches keys that are not among its arguments.
    TOUCHES_ARBITRARY_KEYS = 21, "";
    /// Runs at once inside MULTI instead of being queued.
    IMMEDIATE_IN_MULTI = 22, "";
    /// Allowed to a RESP2 client in subscribed state.
    PUBSUB_OK = 23, "";
    /// Has subcommands only; the row itself never runs.
    CONTAINER = 24, "";
    /// Runs scripts (its own writes come from inner commands).
    SCRIPT_RUNNER = 25, "";
    /// Not delayed by CLIENT PAUSE although it is no plain read.
    PAUSE_OK = 26, "";
    /// Its arguments hold secrets: they are cut from MONITOR, the slow log and crash notes.
    SENSITIVE = 27, "";
    /// A container row that also runs with arguments that name no subcommand.
    OPEN_CONTAINER = 28, "";
    /// Runs the queue of MULTI.
    EXEC = 29, "";
    /// Its replies are pushes (SUBSCRIBE): CLIENT REPLY does not silence them.
    PUSH_REPLY = 40, "";
    /// Says itself what becomes of CLIENT CACHING.
    KEEPS_CACHING = 41, "";
    /// May read keys that are not among its arguments: its user must be allowed to read all (SORT's BY).
    READS_OTHER_KEYS = 42, "";
    /// Its arguments are pairs of option and value: values of sensitive options are cut as secrets are.
    SENSITIVE_OPTIONS = 43, "";
    /// Asks whether the server is well: while the disk takes no writes, it is told so.
    ASKS_HEALTH = 44, "";
}

bits! { Acl, ACL_NAMES, "ACL categories with their names, in the order of ACL CAT.";
    /// Keyspace commands.
    KEYSPACE = 0, "keyspace";
    /// Reading.
    READ = 1, "read";
    /// Writing.
    WRITE = 2, "write";
    /// Sets.
    SET = 3, "set";
    /// Sorted sets.
    SORTEDSET = 4, "sortedset";
    /// Lists.
    LIST = 5, "list";
    /// Hashes.
    HASH = 6, "hash";
    /// Strings.
    STRING = 7, "string";
    /// Bitmaps.
    BITMAP = 8, "bitmap";
    /// HyperLogLog.
    HYPERLOGLOG = 9, "hyperloglog";
    /// Geo.
    GEO = 10, "geo";
    /// Streams.
    STREAM = 11, "stream";
    /// Publish/subscribe.
    PUBSUB = 12, "pubsub";
    /// Operators' commands.
    ADMIN = 13, "admin";
    /// Fast commands.
    FAST = 14, "fast";
    /// All others.
    SLOW = 15, "slow";
    /// Blocking commands.
    BLOCKING = 16, "blocking";
    /// Risky commands.
    DANGEROUS = 17, "dangerous";
    /// Connection commands.
    CONNECTION = 18, "connection";
    /// Transactions.
    TRANSACTION = 19, "transaction";
    /// Scripts and functions.
    SCRIPTING = 20, "scripting";
}

impl Spec {
    /// All ACL categories: the row's own and those that follow from its flags.
    pub const fn acl_categories(&self) -> Acl {
        let mut acl = self.acl;
        let f = self.flags;
        if f.has(Flags::WRITE) {
            acl = acl.with(Acl::WRITE);
        }
        if f.has(Flags::READONLY) && !self.acl.has(Acl::SCRIPTING) {
            acl = acl.with(Acl::READ);
        }
        if f.has(Flags::ADMIN) {
            acl = acl.with(Acl::ADMIN).with(Acl::DANGEROUS);
        }
        if f.has(Flags::PUBSUB) {
            acl = acl.with(Acl::PUBSUB);
        }
        if f.has(Flags::BLOCKING) {
            acl = acl.with(Acl::BLOCKING);
        }
        if f.has(Flags::FAST) { acl.with(Acl::FAST) } else { acl.with(Acl::SLOW) }
    }

    /// Whether `argc` arguments, the name included, are right.
    #[inline]
    pub const fn arity_ok(&self, argc: usize) -> bool {
        if self.arity >= 0 { argc == self.arity as usize } else { argc >= (-self.arity) as usize }
    }

    /// Name of the container of a subcommand row.
    pub fn container(&self) -> Option<&'static str> {
        self.name.split_once('|').map(|(container, _)| container)
    }

    /// The last part of the name.
    pub fn short_name(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, sub)| sub)
    }
}

/// Access flags of a key.
pub mod access {
    /// Read only.
    pub const RO: u32 = 1 << 0;
    /// Read and written.
    pub const RW: u32 = 1 << 1;
    /// Overwritten.
    pub const OW: u32 = 1 << 2;
    /// Removed.
    pub const RM: u32 = 1 << 3;
    /// The value reaches the user.
    pub const ACCESS: u32 = 1 << 4;
    /// The value is changed depending on itself.
    pub const UPDATE: u32 = 1 << 5;
    /// Data is added.
    pub const INSERT: u32 = 1 << 6;
    /// Data is removed.
    pub const DELETE: u32 = 1 << 7;
    /// Not a key at all (a channel, a shard argument).
    pub const NOT_KEY: u32 = 1 << 8;
    /// The spec may miss keys.
    pub const INCOMPLETE: u32 = 1 << 9;
    /// The flags depend on the arguments.
    pub const VARIABLE_FLAGS: u32 = 1 << 10;
    /// Names as COMMAND INFO prints them, in its order.
    pub const NAMES: &[(u32, &str)] = &[
        (RO, "RO"),
        (RW, "RW"),
        (OW, "OW"),
        (RM, "RM"),
        (ACCESS, "access"),
        (UPDATE, "update"),
        (INSERT, "insert"),
        (DELETE, "delete"),
        (NOT_KEY, "not_key"),
        (INCOMPLETE, "incomplete"),
        (VARIABLE_FLAGS, "variable_flags"),
    ];
}

/// Where some of a command's keys are.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    /// How the first key is found.
    pub begin: Begin,
    /// How the others are found from there.
    pub find: Find,
    /// [`access`] flags.
    pub access: u32,
    /// Remark shown by COMMAND INFO, empty for none.
    pub notes: &'static str,
}

/// The argument at which a key spec starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// This argument.
    Index(i32),
    /// The argument after this word, searched from an index (negative: from the end, backwards).
    Keyword(&'static str, i32),
    /// Cannot be said.
    Unknown,
}

/// The keys from the start on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// Up to `last` (relative to the start; negative: from the end of the argv), every `step`th; `limit`
    /// 2 means: only the first half of the rest, 3 the first third, and so on.
    Range {
        /// Last key, relative to the first.
        last: i32,
        /// Distance of keys.
        step: i32,
        /// Divisor of the rest when `last` is -1.
        limit: i32,
    },
    /// A count of keys stands at `at`, the first key at `first`, both relative to the start.
    KeyNum {
        /// Index of the count.
        at: i32,
        /// Index of the first key.
        first: i32,
        /// Distance of keys.
        step: i32,
    },
    /// Cannot be said.
    Unknown,
}

/// One key at argument `index`.
pub const fn key(index: i32, access: u32) -> KeySpec {
    range(index, 0, 1, access)
}

/// Keys from argument `first`, up to `last` relative to it, every `step`th.
pub const fn range(first: i32, last: i32, step: i32, access: u32) -> KeySpec {
    KeySpec { begin: Begin::Index(first), find: Find::Range { last, step, limit: 0 }, access, notes: "" }
}

/// A number of keys at argument `index`, the keys behind it.
pub const fn keynum(index: i32, access: u32) -> KeySpec {
    KeySpec { begin: Begin::Index(index), find: Find::KeyNum { at: 0, first: 1, step: 1 }, access, notes: "" }
}

/// One key after a keyword.
pub const fn keyword(word: &'static str, from: i32, access: u32) -> KeySpec {
    KeySpec {
        begin: Begin::Keyword(word, from),
        find: Find::Range { last: 0, step: 1, limit: 0 },
        access,
        notes: "",
    }
}
