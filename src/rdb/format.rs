//! The numbers of the RDB format: opcodes, types of values, encodings of lengths and strings, versions.
//! Source: Redis' rdb.h, versions 1 to 12, and Valkey's, version 80; the numbers are part of the format.

use crate::util::num;
use std::fmt;

/// The oldest version there is.
pub const VERSION_MIN: u16 = 1;
/// The version written when the data needs no later one: that of Redis 7.0.
pub const VERSION_LOWEST: u16 = 10;
/// The version that knows when consumers were active, and packed sets: that of Redis 7.2.
pub const VERSION_ACTIVE_CONSUMERS: u16 = 11;
/// The version that knows deadlines of fields of hashes: that of Redis 7.4.
pub const VERSION_FIELD_EXPIRY: u16 = 12;
/// The newest version whose files are written.
pub const VERSION_MAX: u16 = 12;

/// The first version with a checksum at the end.
pub const VERSION_CHECKSUM: u16 = 5;

/// The oldest version of Valkey's own, that of Valkey 9.0; and the newest that is known.
pub const VERSION_VALKEY: u16 = 80;

/// What a file begins with that is written here; four digits follow.
pub const MAGIC: &[u8] = b"REDIS";
/// What a file of Valkey 9.0 and later begins with; three digits follow. (Until 8.1 it writes the files of
/// Redis 7.2.)
const VALKEY_MAGIC: &[u8] = b"VALKEY";
/// So many bytes of a file tell whether it is a snapshot.
pub const MAGIC_LONGEST: usize = VALKEY_MAGIC.len();
/// Bytes of magic and version.
pub const HEADER: usize = 9;

/// Whether a file that begins like this is a snapshot.
pub fn is_snapshot(head: &[u8]) -> bool {
    head.starts_with(MAGIC) || head.starts_with(VALKEY_MAGIC)
}

/// Whose format it is. Valkey's went its own way after version 11, and gives other meanings to numbers that
/// Redis has used since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Redis, and Valkey until 8.1.
    Redis,
    /// Valkey from 9.0 on.
    Valkey,
}

/// The format of a file or payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Whose it is.
    pub family: Family,
    /// Its version.
    pub version: u16,
}

impl Format {
    /// What the head of a file says, if it is one; in the error are the digits that are no version.
    pub fn of_head(head: &[u8; HEADER]) -> Option<Result<Format, String>> {
        let (family, oldest, digits) = match head.strip_prefix(VALKEY_MAGIC) {
            Some(digits) => (Family::Valkey, VERSION_VALKEY, digits),
            None => (Family::Redis, VERSION_MIN, head.strip_prefix(MAGIC)?),
        };
        let unknown = || format!("{}{}", String::from_utf8_lossy(digits), family.mark());
        // What later versions add is known by its own number; what is not known is told where it is met.
        let version = num::parse_u64_lax(digits).filter(|version| *version >= u64::from(oldest));
        Some(version.map(|version| Format { family, version: version as u16 }).ok_or_else(unknown))
    }

    /// The format of a payload of this version: they say no family, but the versions are not the same.
    pub fn of_payload(version: u16) -> Format {
        let family = if version < VERSION_VALKEY { Family::Redis } else { Family::Valkey };
        Format { family, version }
    }

    /// Whether it is later than those that are known whole.
    pub fn is_newer(self) -> bool {
        let newest = match self.family {
            Family::Redis => VERSION_MAX,
            Family::Valkey => VERSION_VALKEY,
        };
        self.version > newest
    }
}

impl Family {
    /// What stands behind the number of a version.
    fn mark(self) -> &'static str {
        match self {
            Family::Redis => "",
            Family::Valkey => " of Valkey",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.version, self.family.mark())
    }
}

/// A type of values in a file of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Type {
    /// Its number, see [`kind`].
    pub number: u8,
    /// Whose number it is.
    pub family: Family,
}

impl Type {
    /// The type in words, for reports.
    pub fn name(self) -> &'static str {
        match self {
            Type { number: kind::VALKEY_HASH_2, family: Family::Valkey } => "hash-v2",
            Type { number, .. } => kind::name(number),
        }
    }
}

/// Opcodes, which stand where the type of the next value would.
pub mod opcode {
    /// Slots that were moving into the node (Valkey).
    pub const VALKEY_SLOT_IMPORT: u8 = 243;
    /// Number and sizes of a slot of a cluster.
    pub const SLOT_INFO: u8 = 244;
    /// The source of a function library.
    pub const FUNCTION: u8 = 245;
    /// The same, from release candidates of Redis 7.0.
    pub const FUNCTION_PRE_GA: u8 = 246;
    /// Data of a module that is no key's.
    pub const MODULE_AUX: u8 = 247;
    /// Seconds since the next key was used.
    pub const IDLE: u8 = 248;
    /// Use counter of the next key.
    pub const FREQUENCY: u8 = 249;
    /// A name and a value about the file.
    pub const AUX: u8 = 250;
    /// Numbers of keys and of volatile keys in the database.
    pub const SIZES: u8 = 251;
    /// Deadline of the next key in milliseconds.
    pub const EXPIRE_MS: u8 = 252;
    /// Deadline of the next key in seconds.
    pub const EXPIRE_SECONDS: u8 = 253;
    /// The database of the next keys.
    pub const SELECT: u8 = 254;
    /// The end; a checksum follows.
    pub const END: u8 = 255;
}

/// Types of values.
pub mod kind {
    /// A string.
    pub const STRING: u8 = 0;
    /// A list as strings.
    pub const LIST: u8 = 1;
    /// A set as strings.
    pub const SET: u8 = 2;
    /// A sorted set with scores as text.
    pub const ZSET: u8 = 3;
    /// A hash as strings.
    pub const HASH: u8 = 4;
    /// A sorted set with scores as doubles.
    pub const ZSET_2: u8 = 5;
    /// A value of a module, of a time before Redis 4.0.
    pub const MODULE_PRE_GA: u8 = 6;
    /// A value of a module.
    pub const MODULE_2: u8 = 7;
    /// A small hash as a zipmap.
    pub const HASH_ZIPMAP: u8 = 9;
    /// A small list as a ziplist.
    pub const LIST_ZIPLIST: u8 = 10;
    /// A set of integers.
    pub const SET_INTSET: u8 = 11;
    /// A small sorted set as a ziplist.
    pub const ZSET_ZIPLIST: u8 = 12;
    /// A small hash as a ziplist.
    pub const HASH_ZIPLIST: u8 = 13;
    /// A list as ziplists.
    pub const LIST_QUICKLIST: u8 = 14;
    /// A stream without the marks of deleted entries.
    pub const STREAM_LISTPACKS: u8 = 15;
    /// A small hash as a listpack.
    pub const HASH_LISTPACK: u8 = 16;
    /// A small sorted set as a listpack.
    pub const ZSET_LISTPACK: u8 = 17;
    /// A list as listpacks and plain elements.
    pub const LIST_QUICKLIST_2: u8 = 18;
    /// A stream with first id, deleted entries and counters of groups.
    pub const STREAM_LISTPACKS_2: u8 = 19;
    /// A small set as a listpack.
    pub const SET_LISTPACK: u8 = 20;
    /// A stream with active times of consumers.
    pub const STREAM_LISTPACKS_3: u8 = 21;
    /// A hash with deadlines, from release candidates of Redis 7.4.
    pub const HASH_METADATA_PRE_GA: u8 = 22;
    /// A small hash with deadlines, from release candidates of Redis 7.4.
    pub const HASH_LISTPACK_EX_PRE_GA: u8 = 23;
    /// A hash with deadlines.
    pub const HASH_METADATA: u8 = 24;
    /// A small hash with deadlines, as a listpack.
    pub const HASH_LISTPACK_EX: u8 = 25;

    /// The first number that Valkey uses in its own way.
    pub const VALKEY_OWN: u8 = 22;
    /// A hash with deadlines (Valkey): fields, values and deadlines.
    pub const VALKEY_HASH_2: u8 = 22;

    /// The version that brought the type, as far as types are written.
    pub fn version(kind: u8) -> u16 {
        match kind {
            HASH_METADATA | HASH_LISTPACK_EX => super::VERSION_FIELD_EXPIRY,
            SET_LISTPACK | STREAM_LISTPACKS_3 => super::VERSION_ACTIVE_CONSUMERS,
            _ => super::VERSION_LOWEST,
        }
    }

    /// A type in words, as Redis numbers them.
    pub(super) fn name(kind: u8) -> &'static str {
        match kind {
            STRING => "string",
            LIST => "list",
            SET => "set",
            ZSET => "zset-v1",
            HASH => "hash",
            ZSET_2 => "zset-v2",
            MODULE_PRE_GA | MODULE_2 => "module-value",
            HASH_ZIPMAP => "hash-zipmap",
            LIST_ZIPLIST => "list-ziplist",
            SET_INTSET => "set-intset",
            ZSET_ZIPLIST => "zset-ziplist",
            HASH_ZIPLIST => "hash-ziplist",
            LIST_QUICKLIST => "quicklist",
            STREAM_LISTPACKS => "stream",
            HASH_LISTPACK => "hash-listpack",
            ZSET_LISTPACK => "zset-listpack",
            LIST_QUICKLIST_2 => "quicklist-v2",
            STREAM_LISTPACKS_2 => "stream-v2",
            SET_LISTPACK => "set-listpack",
            STREAM_LISTPACKS_3 => "stream-v3",
            HASH_METADATA_PRE_GA => "hash-hashtable-md-pre-release",
            HASH_LISTPACK_EX_PRE_GA => "hash-listpack-md-pre-release",
            HASH_METADATA => "hash-hashtable-md",
            HASH_LISTPACK_EX => "hash-listpack-md",
            _ => "unknown",
        }
    }
}

/// What the two top bits, or the whole first byte, of a length say.
pub mod length {
    /// Six bits in the byte itself.
    pub const BITS_6: u8 = 0;
    /// Six bits and a further byte.
    pub const BITS_14: u8 = 1;
    /// Four bytes follow, highest first (the whole byte).
    pub const BITS_32: u8 = 0x80;
    /// Eight bytes follow, highest first (the whole byte).
    pub const BITS_64: u8 = 0x81;
    /// Not a length but a specially encoded string.
    pub const SPECIAL: u8 = 3;
}

/// Special encodings of strings.
pub mod special {
    /// A signed byte.
    pub const INT8: u8 = 0;
    /// Two bytes, lowest first.
    pub const INT16: u8 = 1;
    /// Four bytes, lowest first.
    pub const INT32: u8 = 2;
    /// Compressed length, length, LZF data.
    pub const LZF: u8 = 3;
}

/// What a list of nodes says of each.
pub mod container {
    /// One element as it is.
    pub const PLAIN: u64 = 1;
    /// A listpack.
    pub const PACKED: u64 = 2;
}

/// Marks in the data of modules.
pub mod module {
    /// The end.
    pub const END: u64 = 0;
    /// A signed integer.
    pub const SIGNED: u64 = 1;
    /// An unsigned integer.
    pub const UNSIGNED: u64 = 2;
    /// Four bytes.
    pub const FLOAT: u64 = 3;
    /// Eight bytes.
    pub const DOUBLE: u64 = 4;
    /// A string.
    pub const STRING: u64 = 5;
}

/// Lengths of a text score: not a number, and the infinities.
pub mod score {
    /// Not a number.
    pub const NAN: u8 = 253;
    /// Infinity.
    pub const INFINITE: u8 = 254;
    /// Minus infinity.
    pub const MINUS_INFINITE: u8 = 255;
}
