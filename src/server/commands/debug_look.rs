//! The subcommands of DEBUG that look at data and figures, and POPULATE. Looking leaves no trace, and sees
//! keys whose time is over as long as they are there.

use crate::collections::dict::{DictStats, Ref};
use crate::collections::entry::Payload;
use crate::collections::quicklist::Node;
use crate::command::error::{self, CmdError, CmdResult};
use crate::command::{Outcome, args};
use crate::config::Config;
use crate::keyspace::{Key, Keyspace, Ttl};
use crate::resp::{Proto, Reply};
use crate::server::ServerCtx;
use crate::sys::alloc;
use crate::util::crc::hex;
use crate::util::glob::{self, Case};
use crate::value::digest::{self, Digest, Mix};
use crate::value::{
    Digits, Entry, Kind, Object, Value, encoding, hash, kind, list, set, stream, string, zset,
};
use std::ffi::CString;

/// Argument `i`'s entry, even if its time is over.
fn find<'a>(ctx: &'a ServerCtx<'_>, i: usize) -> Option<Ref<'a, Entry>> {
    let key = Key::new(ctx.args.get(i));
    ctx.server.keyspace.db(ctx.client.db).table().get(key.hash, key.bytes)
}

pub(super) fn object(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let entry = find(ctx, 2).ok_or(error::NO_SUCH_KEY)?;
    let access = &ctx.server.keyspace.access;
    // A use counter is no time: then the entry counts as just used.
    let idle = if access.policy == crate::keyspace::access::Policy::Lru {
        access.idle_seconds(entry.clock())
    } else {
        0
    };
    let text = format!(
        "Value at:{:p} refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{idle}{}",
        entry.key().as_ptr(),
        encoding(&entry),
        serialized_len(&entry),
        entry.clock(),
        list_figures(&entry, &ctx.server.config),
    );
    ctx.client.reply.simple(&text);
    Ok(Outcome::Done)
}

/// Bytes that the value takes in a snapshot, uncompressed and without its type.
fn serialized_len(entry: &Entry) -> usize {
    let value_len = |value: Value<'_>| string_len(value.bytes(&mut Digits::default()));
    match kind(entry) {
        Kind::String => string_len(string::bytes(entry, &mut string::Digits::default())),
        Kind::List => match list::view(entry) {
            list::View::Listpack(bytes) => 2 + string_len(bytes),
            list::View::Quicklist(list) => {
                let nodes = list.nodes().map(|node| 1 + length_len(raw_len(node)) + raw_len(node));
                length_len(list.node_count()) + nodes.sum::<usize>()
            }
        },
        Kind::Set => match set::view(entry) {
            set::View::Intset(bytes) | set::View::Listpack(bytes) => string_len(bytes),
            set::View::Table(table) => {
                length_len(table.len()) + table.iter().map(|m| string_len(m.bytes())).sum::<usize>()
            }
        },
        Kind::Zset => match zset::view(entry) {
            zset::View::Listpack(bytes) => string_len(bytes),
            zset::View::Skiplist(set) => {
                let members = set.members().iter().map(|m| string_len(m.bytes()) + size_of::<f64>());
                length_len(set.len()) + members.sum::<usize>()
            }
        },
        Kind::Hash => {
            let hash = hash::view(entry, i64::MIN);
            match hash.repr() {
                hash::Repr::Listpack(bytes) => string_len(bytes),
                hash::Repr::ListpackEx(bytes) => size_of::<i64>() + string_len(bytes),
                hash::Repr::Table(_) => {
                    let fields = hash.iter().map(|item| value_len(item.field) + value_len(item.value));
                    length_len(hash.len()) + fields.sum::<usize>()
                }
            }
        }
        // The ID of a node takes 17 bytes, its length two.
        Kind::Stream => stream::view(entry).nodes().map(|(_, node)| node.len() + 19).sum(),
    }
}

/// Bytes of a node of a long list before compression.
fn raw_len(node: &Node) -> usize {
    node.lzf().map_or_else(|| node.contents(&mut Vec::new()).len(), |(_, len)| len)
}

/// What OBJECT adds about a long list.
fn list_figures(entry: &Entry, config: &Config) -> String {
    let Payload::Object(Object::List(list)) = entry.payload() else { return String::new() };
    format!(
        " ql_nodes:{} ql_avg_node:{:.2} ql_listpack_max:{} ql_compressed:{} ql_uncompressed_size:{}",
        list.node_count(),
        list.len() as f64 / list.node_count().max(1) as f64,
        config.list_max_listpack_size,
        u8::from(config.list_compress_depth != 0),
        list.nodes().map(raw_len).sum::<usize>(),
    )
}

/// Bytes of a string in a snapshot.
fn string_len(bytes: &[u8]) -> usize {
    match string::int_of(bytes) {
        Some(-0x80..=0x7f) => 2,
        Some(-0x8000..=0x7fff) => 3,
        Some(-0x8000_0000..=0x7fff_ffff) => 5,
        _ => length_len(bytes.len()) + bytes.len(),
    }
}

/// Bytes of a length in a snapshot.
fn length_len(len: usize) -> usize {
    match len {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// SDSLEN of a value that is no string.
const NOT_A_STRING: CmdError = CmdError::new("ERR Not an sds encoded string.");

pub(super) fn sdslen(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let entry = find(ctx, 2).ok_or(error::NO_SUCH_KEY)?;
    if kind(&entry) != Kind::String || encoding(&entry) == "int" {
        return Err(NOT_A_STRING);
    }
    let (key, value, bytes) = (entry.key().len(), string::len(&entry), entry.allocated_bytes());
    ctx.client.reply.simple(&format!(
        "key_sds_len:{key}, key_sds_avail:0, key_zmalloc: {bytes}, val_sds_len:{value}, val_sds_avail:0, \
         val_zmalloc: {bytes}"
    ));
    Ok(Outcome::Done)
}

pub(super) fn digest(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let ks = &ctx.server.keyspace;
    let mut all = Mix::default();
    for db in (0..ks.databases()).filter(|db| !ks.db(*db).is_empty()) {
        digest::add_database(&mut all, db, ks.db(db).table().iter());
    }
    ctx.client.reply.simple(&hex(&all.digest()));
    Ok(Outcome::Done)
}

pub(super) fn digest_value(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let digests: Vec<Digest> = (2..ctx.args.len())
        .map(|i| find(ctx, i).map_or(Digest::default(), |entry| digest::of_value(&entry)))
        .collect();
    ctx.client.reply.array(digests.len());
    digests.iter().for_each(|digest| ctx.client.reply.simple(&hex(digest)));
    Ok(Outcome::Done)
}

/// A type that PROTOCOL does not know.
const WRONG_TYPE_NAME: CmdError = CmdError::new(
    "ERR Wrong protocol type name. Please use one of the following: \
     string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
);
/// PROTOCOL push needs RESP3.
const NO_PUSH: CmdError = CmdError::new("ERR RESP2 is not supported by this command");

/// The double that clients' tests expect: not meant as a circle's constant.
const SAMPLE_DOUBLE: f64 = 3141.0 / 1000.0;
/// The name of a type of reply, and what writes a sample.
type Sample = (&'static str, fn(&mut Reply));

/// A sample of each type of reply, as clients' tests expect it.
const SAMPLES: &[Sample] = &[
    ("string", |reply| reply.bulk_str("Hello World")),
    ("integer", |reply| reply.int(12345)),
    ("double", |reply| reply.double(SAMPLE_DOUBLE)),
    ("bignum", |reply| reply.big_number("1234567999999999999999999999999999999")),
    ("null", Reply::null),
    ("array", |reply| {
        reply.array(3);
        (0..3).for_each(|i| reply.int(i));
    }),
    ("set", |reply| {
        reply.set(3);
        (0..3).for_each(|i| reply.int(i));
    }),
    ("map", |reply| {
        reply.map(3);
        (0..3).for_each(|i| {
            reply.int(i);
            reply.bool(i == 1);
        });
    }),
    ("attrib", |reply| {
        if reply.proto == Proto::Resp3 {
            reply.attribute(1);
            reply.bulk_str("key-popularity");
            reply.array(2);
            reply.bulk_str("key:123");
            reply.int(90);
        }
        reply.bulk_str("Some real reply following the attribute");
    }),
    ("push", |reply| {
        reply.push(2);
        reply.bulk_str("server-cpu-usage");
        reply.int(42);
        reply.bulk_str("Some real reply following the push reply");
    }),
    ("verbatim", |reply| reply.verbatim("txt", b"This is a verbatim\nstring")),
    ("true", |reply| reply.bool(true)),
    ("false", |reply| reply.bool(false)),
];

pub(super) fn protocol(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let wanted = ctx.args.get(2);
    let reply = &mut ctx.client.reply;
    let (name, write) = SAMPLES.iter().find(|(name, _)| args::is(wanted, name)).ok_or(WRONG_TYPE_NAME)?;
    if *name == "push" && reply.proto == Proto::Resp2 {
        return Err(NO_PUSH);
    }
    write(reply);
    Ok(Outcome::Done)
}

/// HTSTATS of a database that does not exist.
const NO_SUCH_DB: CmdError = CmdError::new("ERR Out of range database");

/// The figures of a table, in words that scripts know from Redis.
fn table_figures(title: &str, stats: &DictStats) -> String {
    format!(
        "[Dictionary HT]\nHash table 0 stats ({title}):\n table size: {}\n number of elements: {}\n \
         segments: {}\n directory depth: {}\n longest segment: {}\n displaced elements: {}\n \
         max chain length: {}\n",
        stats.slots,
        stats.entries,
        stats.segments,
        stats.depth,
        stats.longest_segment,
        stats.displaced,
        stats.max_chain,
    )
}

pub(super) fn htstats(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let db = args::int(ctx.args.get(2))?;
    let ks = &ctx.server.keyspace;
    let db = usize::try_from(db).ok().filter(|db| *db < ks.databases()).ok_or(NO_SUCH_DB)?;
    let db = ks.db(db);
    let text = format!(
        "{} bytes: {}\n[Expires HT]\n number of elements: {}\n",
        table_figures("main hash table", &db.table().stats()),
        db.overhead_bytes(),
        db.volatile(),
    );
    ctx.client.reply.verbatim("txt", text.as_bytes());
    Ok(Outcome::Done)
}

/// HTSTATS-KEY of a value without a table.
const NO_TABLE: CmdError =
    CmdError::new("ERR The value stored at the specified key is not represented using an hash table");

pub(super) fn htstats_key(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let entry = find(ctx, 2).ok_or(error::NO_SUCH_KEY)?;
    let stats = match entry.payload() {
        Payload::Object(Object::Set(table)) => table.stats(),
        Payload::Object(Object::Zset(set)) => set.members().stats(),
        Payload::Object(Object::Hash(hash::Large::Table(table))) => table.fields().stats(),
        _ => return Err(NO_TABLE),
    };
    let text = table_figures("main hash table", &stats);
    ctx.client.reply.verbatim("txt", text.as_bytes());
    Ok(Outcome::Done)
}

/// LISTPACK of a value that is none.
const NO_LISTPACK: CmdError = CmdError::new("ERR Not a listpack encoded object.");

/// Writes the elements of a packed value to the log.
pub(super) fn listpack(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let entry = find(ctx, 2).ok_or(error::NO_SUCH_KEY)?;
    let bytes = match kind(&entry) {
        Kind::List => match list::view(&entry) {
            list::View::Listpack(bytes) => bytes,
            list::View::Quicklist(_) => return Err(NO_LISTPACK),
        },
        Kind::Set => match set::view(&entry) {
            set::View::Listpack(bytes) => bytes,
            set::View::Intset(_) | set::View::Table(_) => return Err(NO_LISTPACK),
        },
        Kind::Zset => match zset::view(&entry) {
            zset::View::Listpack(bytes) => bytes,
            zset::View::Skiplist(_) => return Err(NO_LISTPACK),
        },
        Kind::Hash => match hash::view(&entry, i64::MIN).repr() {
            hash::Repr::Listpack(bytes) | hash::Repr::ListpackEx(bytes) => bytes,
            hash::Repr::Table(_) => return Err(NO_LISTPACK),
        },
        Kind::String | Kind::Stream => return Err(NO_LISTPACK),
    };
    log::info!(target: "aikv", "DEBUG LISTPACK: {} bytes", bytes.len());
    for value in crate::collections::listpack::iter(bytes) {
        log::info!(target: "aikv", "DEBUG LISTPACK: {}", value.bytes(&mut Digits::default()).escape_ascii());
    }
    ctx.client.reply.simple("Listpack structure printed to the log");
    Ok(Outcome::Done)
}

/// QUICKLIST of a value that is none.
const NO_QUICKLIST: CmdError = CmdError::new("ERR Not a quicklist encoded object.");

/// Writes the nodes of a long list to the log, and their elements if that is asked for.
pub(super) fn quicklist(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let entry = find(ctx, 2).ok_or(error::NO_SUCH_KEY)?;
    let Payload::Object(Object::List(quicklist)) = entry.payload() else { return Err(NO_QUICKLIST) };
    let with_elements = ctx.args.try_get(3).is_some_and(|word| word != b"0");
    let mut scratch = Vec::new();
    for (i, node) in quicklist.nodes().enumerate() {
        let form = if node.is_plain() { "plain" } else { "packed" };
        let packed = node.lzf().map_or(String::new(), |(data, _)| format!(", {} compressed", data.len()));
        let (len, bytes) = (node.len(), raw_len(node));
        log::info!(target: "aikv", "DEBUG QUICKLIST: node {i} {form}: {len} elements, {bytes} bytes{packed}");
        if with_elements && !node.is_plain() {
            for value in crate::collections::listpack::iter(node.contents(&mut scratch)) {
                let shown = value.bytes(&mut Digits::default()).escape_ascii().to_string();
                log::info!(target: "aikv", "DEBUG QUICKLIST: {shown}");
            }
        }
    }
    ctx.client.reply.simple("Quicklist structure printed to the log");
    Ok(Outcome::Done)
}

pub(super) fn client_eviction(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let mut sizes: Vec<usize> = ctx.server.clients.iter().map(|c| c.accounted_bytes).collect();
    sizes.sort_unstable();
    let (total, largest) = (ctx.server.memory.clients_bytes, sizes.last().copied().unwrap_or(0));
    let text = format!("clients: {}, tot-mem: {total}, largest: {largest}\n", sizes.len());
    ctx.client.reply.verbatim("txt", text.as_bytes());
    Ok(Outcome::Done)
}

/// The allocator knows no such name, or not with this kind of value.
const NO_CONTROL: CmdError = CmdError::new("ERR No such file or directory");

fn control_name(bytes: &[u8]) -> Result<CString, CmdError> {
    CString::new(bytes).map_err(|_| NO_CONTROL)
}

pub(super) fn mallctl(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let name = control_name(ctx.args.get(2))?;
    ctx.client.reply.int(alloc::control_value(&name).ok_or(NO_CONTROL)?);
    Ok(Outcome::Done)
}

pub(super) fn mallctl_action(ctx: &mut ServerCtx<'_>) -> CmdResult {
    if ctx.args.get(3) != b"VOID" {
        return Err(error::SYNTAX);
    }
    let name = control_name(ctx.args.get(2))?;
    if !alloc::control_action(&name) {
        return Err(NO_CONTROL);
    }
    ctx.client.reply.ok();
    Ok(Outcome::Done)
}

pub(super) fn string_match(ctx: &mut ServerCtx<'_>) -> CmdResult {
    let matches = glob::matches(ctx.args.get(2), ctx.args.get(3), Case::Sensitive);
    ctx.client.reply.int(i64::from(matches));
    Ok(Outcome::Done)
}

pub(super) fn string_match_test(ctx: &mut ServerCtx<'_>) -> CmdResult {
    /// Patterns to try.
    const TRIES: usize = 100_000;
    /// Their lengths are below this power of two.
    const LEN_MASK: u64 = 31;
    let rng = &mut ctx.server.keyspace.rng;
    let mut random = || {
        let mut bytes = vec![0; (rng.next_u64() & LEN_MASK) as usize];
        rng.fill(&mut bytes);
        bytes
    };
    let hits = (0..TRIES).filter(|_| glob::matches(&random(), &random(), Case::Insensitive)).count();
    log::debug!(target: "aikv", "{hits} of {TRIES} random patterns matched");
    ctx.client.reply.simple("Apparently Redis did not crash: test passed");
    Ok(Outcome::Done)
}

pub(super) fn struct_size(ctx: &mut ServerCtx<'_>) -> CmdResult {
    use crate::server::client::Client;
    let text = format!(
        "bits:64 entry:{} client:{} server:{} ",
        size_of::<Entry>(),
        size_of::<Client>(),
        size_of::<crate::server::Server>()
    );
    ctx.client.reply.bulk_str(&text);
    Ok(Outcome::Done)
}

/// Creates the strings `prefix:0` and so on that are not there yet, of `size` bytes (zero bytes follow the
/// text) or as long as their text is.
pub(super) fn populate(ks: &mut Keyspace, db: usize, prefix: &[u8], count: usize, size: Option<usize>) {
    let mut name = prefix.to_vec();
    name.push(b':');
    let prefix_len = name.len();
    for n in 0..count {
        name.truncate(prefix_len);
        crate::util::num::push_u64(&mut name, n as u64);
        let key = Key::new(&name);
        if ks.exists(db, key) {
            continue;
        }
        let mut value = format!("value:{n}").into_bytes();
        value.resize(size.unwrap_or(value.len()), 0);
        ks.set(db, key, Kind::String, string::payload(&value, None), Ttl::Clear);
        ks.modified(db, key.bytes);
    }
}
