//! What the core knows of an option: `OptionSpec`, and the macro that makes the field, the default and the
//! spec of each row of `options.rs`. A reader comes here to see what a row can say.

use super::{Config, Fault, Literal, Turn};

/// Properties of an option that the loaders and CONFIG ask about.
pub type Flags = u16;
/// CONFIG SET may change it.
pub const MODIFIABLE: Flags = 0;
/// Only the start-up can set it.
pub const FIXED: Flags = 1;
/// Takes several words.
pub const MANY: Flags = 2;
/// Its value stays out of logs and messages.
pub const SENSITIVE: Flags = 4;
/// CONFIG SET needs `enable-protected-configs`.
pub const PROTECTED: Flags = 8;
/// CONFIG GET shows it only under its exact name.
pub const HIDDEN: Flags = 16;
/// CONFIG SET is refused while data is being loaded.
pub const NOT_LOADING: Flags = 32;
/// Its apply hook runs even if the value stays the same: what it names may have changed.
pub const VOLATILE: Flags = 64;
/// With `FIXED`: CONFIG SET takes the value that it has. For options of our own: tools that write back all
/// they have read know only Redis' fixed ones.
pub const WRITTEN_BACK: Flags = 128;

/// What has to be done after a change. The server matches this, so that the configuration calls nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // each is named after its option or subsystem
pub enum Apply {
    /// Nothing: the value is read where it is used.
    None,
    AofGc,
    Appendfsync,
    Appendonly,
    Bind,
    ClientMemory,
    Cluster,
    CrashLog,
    Dir,
    /// The size limits of the compact encodings.
    Encodings,
    /// The count of replicas that keep up.
    GoodReplicas,
    Hz,
    JemallocThread,
    Locale,
    Log,
    Maxclients,
    Maxmemory,
    Notify,
    OomScoreAdj,
    Port,
    ProcTitle,
    ReplBacklog,
    RequirePass,
    Save,
    /// The memory that scripts may hold.
    Scripts,
    Slowlog,
    Tls,
    TlsPort,
    Watchdog,
}

/// A section of the TOML file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // `title` says what each is about
pub enum Section {
    Server,
    Clients,
    Storage,
    Persistence,
    Logging,
    Slowlog,
    Latency,
    Security,
    Memory,
    Types,
    Pubsub,
    Lua,
    Replication,
    Cluster,
    Tls,
}

impl Section {
    /// Every section with its name in the file and what it is about, in the order of the generated files.
    pub const ALL: &'static [(Section, &'static str, &'static str)] = &[
        (Section::Server, "server", "Listening, process, periodic tasks"),
        (Section::Clients, "clients", "Connections and their limits"),
        (Section::Storage, "storage", "Where data lives"),
        (Section::Persistence, "persistence", "Snapshots and the append-only log"),
        (Section::Logging, "logging", "Log messages"),
        (Section::Slowlog, "slowlog", "Slow commands"),
        (Section::Latency, "latency", "Latency events and histograms"),
        (Section::Security, "security", "Passwords, users, dangerous commands"),
        (Section::Memory, "memory", "Memory limit, eviction, freeing"),
        (Section::Types, "types", "Compact encodings of the data types"),
        (Section::Pubsub, "pubsub", "Keyspace events"),
        (Section::Lua, "lua", "Scripts and functions"),
        (Section::Replication, "replication", "Primary and replicas"),
        (Section::Cluster, "cluster", "Cluster"),
        (Section::Tls, "tls", "Encrypted connections"),
    ];

    /// Its name in the file.
    pub fn name(self) -> &'static str {
        let found = Section::ALL.iter().find(|(section, ..)| *section == self);
        found.expect("every section is listed").1
    }
}

/// Sets an option from words; says whether its value is another one now.
pub type SetFn = fn(&mut Config, &[&[u8]], Turn) -> Result<bool, Fault>;

/// One option.
pub struct OptionSpec {
    /// Its name in redis.conf, in CONFIG and, after `--`, on the command line.
    pub name: &'static str,
    /// Other names, which CONFIG knows as well.
    pub aliases: &'static [&'static str],
    /// Its section in TOML.
    pub section: Section,
    /// Its key in TOML, if that is not its name.
    pub toml: Option<&'static str>,
    /// One more name for the command line.
    pub flag: Option<&'static str>,
    /// Its properties.
    pub flags: Flags,
    /// What follows a change.
    pub apply: Apply,
    /// Why it has no effect. It is accepted all the same.
    pub note: Option<&'static str>,
    /// What it does, in lines.
    pub doc: &'static [&'static str],
    /// Reads its value.
    pub set: SetFn,
    /// The text CONFIG GET answers.
    pub show: fn(&Config) -> String,
    /// The value in TOML's terms.
    pub literal: fn(&Config) -> Literal,
    /// What follows its name on each of its lines in redis.conf.
    pub conf: fn(&Config) -> Vec<String>,
    /// Whether both have the same value.
    pub same: fn(&Config, &Config) -> bool,
    /// Which values are possible.
    pub describe: fn() -> String,
}

impl OptionSpec {
    /// What a row has if it says nothing else.
    pub(super) const BASE: OptionSpec = OptionSpec {
        name: "",
        aliases: &[],
        section: Section::Server,
        toml: None,
        flag: None,
        flags: 0,
        apply: Apply::None,
        note: None,
        doc: &[],
        set: |_, _, _| Ok(false),
        show: |_| String::new(),
        literal: |_| Literal::Bool(false),
        conf: |_| Vec::new(),
        same: |_, _| true,
        describe: String::new,
    };

    /// Whether it has all of `flags`.
    pub fn has(&self, flags: Flags) -> bool {
        self.flags & flags == flags
    }

    /// Its key in TOML: with `_` between the words.
    pub fn toml_key(&self) -> String {
        self.toml.unwrap_or(self.name).replace('-', "_")
    }

    /// Its name and its aliases.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

/// Makes `Config`, its default and `OPTIONS` from the rows:
/// `"name" field: type = default, kind, flags, attribute: value, ...;`.
macro_rules! options {
    ($( $section:ident { $(
        $(#[doc = $doc:literal])+
        $name:literal $field:ident : $type:ty = $default:expr, $kind:expr, $flags:expr $(,
            $attribute:ident : $value:expr)*;
    )+ } )+) => {
        /// The value of every option, and the directives that are no options.
        #[derive(Clone, PartialEq, Debug)]
        pub struct Config {
            $( $( $(#[doc = $doc])+ pub $field: $type, )+ )+
            /// `rename-command`: old name and new name; an empty new name removes the command.
            pub renamed_commands: Vec<(String, String)>,
            /// `user`: ACL users, each as its name and rules. CONFIG REWRITE writes what stands here.
            pub users: Vec<String>,
            /// The file that was read at start, absolute.
            pub config_file: Option<PathBuf>,
            /// The working directory at start, which relative paths began from.
            pub start_dir: PathBuf,
        }

        impl Default for Config {
            fn default() -> Config {
                Config {
                    $( $( $field: $default, )+ )+
                    renamed_commands: Vec::new(),
                    users: Vec::new(),
                    config_file: None,
                    start_dir: PathBuf::from("."),
                }
            }
        }

        /// Every option, in the order of the generated files.
        pub static OPTIONS: &[super::OptionSpec] = &[ $( $( super::OptionSpec {
            name: $name,
            section: super::Section::$section,
            flags: $flags,
            doc: &[$($doc),+],
            set: |config, args, turn| {
                let value: $type = $kind.parse(args, &config.$field, turn)?;
                let changed = value != config.$field;
                config.$field = value;
                Ok(changed)
            },
            show: |config| $kind.show(&config.$field),
            literal: |config| $kind.literal(&config.$field),
            conf: |config| $kind.conf(&config.$field),
            same: |one, other| one.$field == other.$field,
            describe: || Setting::<$type>::describe(&$kind),
            $( $attribute: $value, )*
            ..super::OptionSpec::BASE
        }, )+ )+ ];
    };
}
pub(super) use options;
