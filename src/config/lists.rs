//! The kinds of values that have parts: addresses, save points, output buffer limits, event classes, signal
//! flags, percentiles, the primary's address. As `setting.rs`, it knows neither the table nor file syntax.

use super::setting::{Fault, Literal, Setting, Turn, not_one_of, single, utf8};
use super::text;
use crate::util::memsize::parse_memory;
use crate::util::num::{parse_f64, parse_i64};
use crate::util::quote::needs_quotes;

/// `word` as a host name or address. What needs quotes is none, and would not survive a rewrite.
fn host(word: &[u8]) -> Result<String, Fault> {
    if needs_quotes(word) {
        return Err(Fault::new("argument must be a host name or address"));
    }
    utf8(word).map(str::to_owned)
}

/// A list of addresses to listen on. A leading `-` says that the address may be missing on this machine.
pub struct Addresses;

/// As many addresses as Redis takes.
const ADDRESSES_MAX: usize = 16;

impl Setting<Vec<String>> for Addresses {
    fn parse(&self, args: &[&[u8]], _old: &Vec<String>, _turn: Turn) -> Result<Vec<String>, Fault> {
        match args {
            [b""] => Ok(Vec::new()),
            _ if args.len() > ADDRESSES_MAX => Err(Fault::new("Too many bind addresses specified.")),
            _ => args.iter().map(|word| host(word)).collect(),
        }
    }

    fn show(&self, value: &Vec<String>) -> String {
        value.join(" ")
    }

    fn literal(&self, value: &Vec<String>) -> Literal {
        match value.as_slice() {
            [one] => Literal::Text(one.clone()),
            all => Literal::List(all.to_vec()),
        }
    }

    fn conf(&self, value: &Vec<String>) -> Vec<String> {
        vec![if value.is_empty() { "\"\"".to_owned() } else { self.show(value) }]
    }

    fn describe(&self) -> String {
        format!("up to {ADDRESSES_MAX} addresses; - before one: it may be missing on this machine")
    }
}

/// A snapshot is taken when `changes` writes happened within `seconds`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SavePoint {
    /// At least this many seconds after the last snapshot.
    pub seconds: u64,
    /// And at least this many changes.
    pub changes: u64,
}

/// The save points; an empty text means none. Lines of one file add up.
pub struct SavePoints;

impl SavePoints {
    fn point(pair: &[&[u8]]) -> Option<SavePoint> {
        let [seconds, changes] = pair else { return None };
        let number = |word: &[u8]| parse_i64(word).and_then(|number| u64::try_from(number).ok());
        let point = SavePoint { seconds: number(seconds)?, changes: number(changes)? };
        let fits = point.seconds >= 1 && point.changes <= i32::MAX as u64;
        fits.then_some(point)
    }

    fn items(value: &[SavePoint]) -> Vec<String> {
        value.iter().map(|point| format!("{} {}", point.seconds, point.changes)).collect()
    }
}

impl Setting<Vec<SavePoint>> for SavePoints {
    fn parse(&self, args: &[&[u8]], old: &Vec<SavePoint>, turn: Turn) -> Result<Vec<SavePoint>, Fault> {
        if matches!(args, [] | [b""]) {
            return Ok(Vec::new());
        }
        let points: Option<Vec<_>> = args.chunks(2).map(SavePoints::point).collect();
        let points = points.ok_or_else(|| Fault {
            reply: "Invalid save parameters".to_owned(),
            plain: Some("must be pairs of seconds (1 or more) and changes (0 or more)".to_owned()),
        })?;
        Ok(match turn {
            Turn::First => points,
            Turn::Again => old.iter().copied().chain(points).collect(),
        })
    }

    fn show(&self, value: &Vec<SavePoint>) -> String {
        SavePoints::items(value).join(" ")
    }

    fn literal(&self, value: &Vec<SavePoint>) -> Literal {
        Literal::List(SavePoints::items(value))
    }

    fn conf(&self, value: &Vec<SavePoint>) -> Vec<String> {
        if value.is_empty() { vec!["\"\"".to_owned()] } else { SavePoints::items(value) }
    }

    fn describe(&self) -> String {
        "pairs of seconds and changes; \"\" for none".to_owned()
    }
}

/// When a client that does not read its replies is disconnected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BufferLimit {
    /// At so many waiting bytes at once; 0: never.
    pub hard: u64,
    /// At so many waiting bytes ...
    pub soft: u64,
    /// ... during so many seconds; 0 for both: never.
    pub soft_seconds: u64,
}

/// The limits of the three classes of clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BufferLimits {
    /// Clients that send commands (also MONITOR).
    pub normal: BufferLimit,
    /// Replicas.
    pub replica: BufferLimit,
    /// Clients with a subscription.
    pub pubsub: BufferLimit,
}

impl BufferLimits {
    /// Redis' limits: none for normal clients, 256 MB for replicas, 32 MB for subscribers.
    pub const DEFAULT: BufferLimits = BufferLimits {
        normal: BufferLimit { hard: 0, soft: 0, soft_seconds: 0 },
        replica: BufferLimit { hard: 256 << 20, soft: 64 << 20, soft_seconds: 60 },
        pubsub: BufferLimit { hard: 32 << 20, soft: 8 << 20, soft_seconds: 60 },
    };

    fn class(&mut self, name: &[u8]) -> Option<&mut BufferLimit> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Some(&mut self.normal),
            b"replica" | b"slave" => Some(&mut self.replica),
            b"pubsub" => Some(&mut self.pubsub),
            _ => None,
        }
    }
}

/// Groups of `class hard soft seconds`; classes that are not named keep their limits.
pub struct OutputLimits;

impl OutputLimits {
    fn limit(words: &[&[u8]]) -> Option<BufferLimit> {
        let [hard, soft, seconds] = words else { return None };
        let soft_seconds = u64::try_from(parse_i64(seconds)?).ok()?;
        Some(BufferLimit { hard: parse_memory(hard)?, soft: parse_memory(soft)?, soft_seconds })
    }

    fn items(value: &BufferLimits) -> Vec<String> {
        let line = |name, limit: BufferLimit| {
            let (hard, soft) = (text::with_unit(limit.hard), text::with_unit(limit.soft));
            format!("{name} {hard} {soft} {}", limit.soft_seconds)
        };
        vec![line("normal", value.normal), line("replica", value.replica), line("pubsub", value.pubsub)]
    }
}

impl Setting<BufferLimits> for OutputLimits {
    fn parse(&self, args: &[&[u8]], old: &BufferLimits, _turn: Turn) -> Result<BufferLimits, Fault> {
        if !args.len().is_multiple_of(4) {
            return Err(Fault::new("Wrong number of arguments in buffer limit configuration."));
        }
        let mut limits = *old;
        for group in args.chunks(4) {
            let class = limits.class(group[0]);
            let class = class
                .ok_or_else(|| Fault::new("Invalid client class specified in buffer limit configuration."))?;
            *class = OutputLimits::limit(&group[1..]).ok_or_else(|| {
                Fault::new("Error in hard, soft or soft_seconds setting in buffer limit configuration.")
            })?;
        }
        Ok(limits)
    }

    fn show(&self, value: &BufferLimits) -> String {
        let part =
            |name, limit: BufferLimit| format!("{name} {} {} {}", limit.hard, limit.soft, limit.soft_seconds);
        // `slave` is what clients have been reading here since before the class was renamed.
        [part("normal", value.normal), part("slave", value.replica), part("pubsub", value.pubsub)].join(" ")
    }

    fn literal(&self, value: &BufferLimits) -> Literal {
        Literal::List(OutputLimits::items(value))
    }

    fn conf(&self, value: &BufferLimits) -> Vec<String> {
        OutputLimits::items(value)
    }

    fn describe(&self) -> String {
        "groups of class (normal, replica, pubsub), hard limit, soft limit, soft seconds".to_owned()
    }
}

/// Classes of keyspace events, and the two kinds of channels they are published on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NotifyFlags(u32);

impl NotifyFlags {
    /// Nothing is published.
    pub const NONE: NotifyFlags = NotifyFlags(0);
    /// `K`: channels `__keyspace@<db>__:<key>`.
    pub const KEYSPACE: NotifyFlags = NotifyFlags(1 << 0);
    /// `E`: channels `__keyevent@<db>__:<event>`.
    pub const KEYEVENT: NotifyFlags = NotifyFlags(1 << 1);
    /// `g`: commands for any type, such as DEL and EXPIRE.
    pub const GENERIC: NotifyFlags = NotifyFlags(1 << 2);
    /// `$`: strings.
    pub const STRING: NotifyFlags = NotifyFlags(1 << 3);
    /// `l`: lists.
    pub const LIST: NotifyFlags = NotifyFlags(1 << 4);
    /// `s`: sets.
    pub const SET: NotifyFlags = NotifyFlags(1 << 5);
    /// `h`: hashes.
    pub const HASH: NotifyFlags = NotifyFlags(1 << 6);
    /// `z`: sorted sets.
    pub const ZSET: NotifyFlags = NotifyFlags(1 << 7);
    /// `x`: a key expired.
    pub const EXPIRED: NotifyFlags = NotifyFlags(1 << 8);
    /// `e`: a key was evicted.
    pub const EVICTED: NotifyFlags = NotifyFlags(1 << 9);
    /// `t`: streams.
    pub const STREAM: NotifyFlags = NotifyFlags(1 << 10);
    /// `m`: a key was looked for in vain.
    pub const KEY_MISS: NotifyFlags = NotifyFlags(1 << 11);
    /// `d`: events of modules.
    pub const MODULE: NotifyFlags = NotifyFlags(1 << 12);
    /// `n`: a key came into being.
    pub const NEW: NotifyFlags = NotifyFlags(1 << 13);
    /// `A`: `g$lshzxetd`.
    pub const ALL: NotifyFlags = NotifyFlags(0b1_0111_1111_1100);

    /// The letters in the order they are printed.
    const LETTERS: &'static [(u8, NotifyFlags)] = &[
        (b'A', NotifyFlags::ALL),
        (b'g', NotifyFlags::GENERIC),
        (b'$', NotifyFlags::STRING),
        (b'l', NotifyFlags::LIST),
        (b's', NotifyFlags::SET),
        (b'h', NotifyFlags::HASH),
        (b'z', NotifyFlags::ZSET),
        (b'x', NotifyFlags::EXPIRED),
        (b'e', NotifyFlags::EVICTED),
        (b't', NotifyFlags::STREAM),
        (b'd', NotifyFlags::MODULE),
        (b'n', NotifyFlags::NEW),
        (b'K', NotifyFlags::KEYSPACE),
        (b'E', NotifyFlags::KEYEVENT),
        (b'm', NotifyFlags::KEY_MISS),
    ];

    /// Whether all of `flags` are set.
    pub const fn contains(self, flags: NotifyFlags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These flags and `other`.
    pub const fn with(self, other: NotifyFlags) -> NotifyFlags {
        NotifyFlags(self.0 | other.0)
    }

    /// The flags as bits; those of classes are the bits of `keyspace::change::class`.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The classes that are published at all, as bits: none without one of the two kinds of channels.
    pub const fn published(self) -> u32 {
        let channels = NotifyFlags::KEYSPACE.0 | NotifyFlags::KEYEVENT.0;
        if self.0 & channels == 0 { 0 } else { self.0 & !channels }
    }

    /// Whether nothing is published at all.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Letters of `NotifyFlags`.
pub struct EventClasses;

impl Setting<NotifyFlags> for EventClasses {
    fn parse(&self, args: &[&[u8]], _old: &NotifyFlags, _turn: Turn) -> Result<NotifyFlags, Fault> {
        let mut flags = NotifyFlags::NONE;
        for letter in single(args)? {
            let found = NotifyFlags::LETTERS.iter().find(|(known, _)| known == letter);
            let (_, flag) =
                found.ok_or_else(|| Fault::new("Invalid event class character. Use 'Ag$lshzxeKEtmdn'."))?;
            flags = flags.with(*flag);
        }
        Ok(flags)
    }

    fn show(&self, value: &NotifyFlags) -> String {
        let mut left = *value;
        let mut out = String::new();
        for (letter, flag) in NotifyFlags::LETTERS {
            if left.contains(*flag) {
                out.push(*letter as char);
                left.0 &= !flag.0;
            }
        }
        out
    }

    fn describe(&self) -> String {
        "letters: K keyspace and E keyevent channels; g $ l s h z x e t d (A for all of these), m, n"
            .to_owned()
    }
}

/// How a signal's shutdown goes about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ShutdownFlags(u8);

impl ShutdownFlags {
    /// A snapshot is written if save points are configured.
    pub const DEFAULT: ShutdownFlags = ShutdownFlags(0);
    /// A snapshot is written in any case.
    pub const SAVE: ShutdownFlags = ShutdownFlags(1);
    /// No snapshot is written.
    pub const NOSAVE: ShutdownFlags = ShutdownFlags(2);
    /// Lagging replicas are not waited for.
    pub const NOW: ShutdownFlags = ShutdownFlags(4);
    /// Errors that would prevent the shutdown are ignored.
    pub const FORCE: ShutdownFlags = ShutdownFlags(8);

    const NAMES: &'static [(&'static str, ShutdownFlags)] = &[
        ("default", ShutdownFlags::DEFAULT),
        ("save", ShutdownFlags::SAVE),
        ("nosave", ShutdownFlags::NOSAVE),
        ("now", ShutdownFlags::NOW),
        ("force", ShutdownFlags::FORCE),
    ];

    /// These flags and `others`.
    pub const fn with(self, others: ShutdownFlags) -> ShutdownFlags {
        ShutdownFlags(self.0 | others.0)
    }

    /// Whether all of `flags` are set.
    pub const fn contains(self, flags: ShutdownFlags) -> bool {
        self.0 & flags.0 == flags.0
    }
}

/// Names of `ShutdownFlags`.
pub struct OnSignal;

impl OnSignal {
    fn named(word: &[u8]) -> Option<ShutdownFlags> {
        let named = |(name, _): &&(&str, _)| word.eq_ignore_ascii_case(name.as_bytes());
        ShutdownFlags::NAMES.iter().find(named).map(|(_, flag)| *flag)
    }
}

impl Setting<ShutdownFlags> for OnSignal {
    fn parse(&self, args: &[&[u8]], _old: &ShutdownFlags, _turn: Turn) -> Result<ShutdownFlags, Fault> {
        let flags: Option<Vec<_>> = args.iter().map(|word| OnSignal::named(word)).collect();
        let flags = flags.filter(|flags| !flags.is_empty());
        let flags = flags.ok_or_else(|| not_one_of(ShutdownFlags::NAMES.iter().map(|(name, _)| *name)))?;
        let flags = ShutdownFlags(flags.iter().fold(0, |all, flag| all | flag.0));
        if flags.contains(ShutdownFlags::SAVE) && flags.contains(ShutdownFlags::NOSAVE) {
            return Err(Fault::new("shutdown options SAVE and NOSAVE can't be used simultaneously"));
        }
        Ok(flags)
    }

    fn show(&self, value: &ShutdownFlags) -> String {
        let set = |(_, flag): &&(&'static str, ShutdownFlags)| match flag.0 {
            0 => value.0 == 0,
            _ => value.contains(*flag),
        };
        ShutdownFlags::NAMES.iter().filter(set).map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
    }

    fn conf(&self, value: &ShutdownFlags) -> Vec<String> {
        vec![self.show(value)]
    }

    fn describe(&self) -> String {
        "default, or some of save, nosave, now, force".to_owned()
    }
}

/// A list of percentiles, 0 to 100.
pub struct Percentiles;

impl Percentiles {
    /// At most six digits after the point, without trailing zeros: the form of Redis.
    fn number(value: f64) -> String {
        let text = format!("{value:.6}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

impl Setting<Vec<f64>> for Percentiles {
    fn parse(&self, args: &[&[u8]], _old: &Vec<f64>, _turn: Turn) -> Result<Vec<f64>, Fault> {
        let number = |word: &&[u8]| {
            let number: Option<f64> = parse_f64(word);
            match number {
                Some(number) if (0.0..=100.0).contains(&number) => Ok(number),
                Some(number) if !number.is_nan() => {
                    let bounds =
                        "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]";
                    Err(Fault::new(bounds))
                }
                _ => Err(Fault::new("Invalid latency-tracking-info-percentiles parameters")),
            }
        };
        if matches!(args, [b""]) { Ok(Vec::new()) } else { args.iter().map(number).collect() }
    }

    fn show(&self, value: &Vec<f64>) -> String {
        value.iter().map(|number| Percentiles::number(*number)).collect::<Vec<_>>().join(" ")
    }

    fn conf(&self, value: &Vec<f64>) -> Vec<String> {
        vec![if value.is_empty() { "\"\"".to_owned() } else { self.show(value) }]
    }

    fn describe(&self) -> String {
        "numbers from 0 to 100; \"\" for none".to_owned()
    }
}

/// The kernel's out-of-memory scores of the primary, of a replica and of the saving child.
pub struct OomScores;

impl Setting<[i32; 3]> for OomScores {
    fn parse(&self, args: &[&[u8]], _old: &[i32; 3], _turn: Turn) -> Result<[i32; 3], Fault> {
        let [primary, replica, child] = args else { return Err(Fault::count()) };
        let score = |word: &[u8]| {
            let score = parse_i64(word).filter(|score| (-2000..=2000).contains(score));
            score.map(|score| score as i32).ok_or_else(|| {
                Fault::new("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")
            })
        };
        Ok([score(primary)?, score(replica)?, score(child)?])
    }

    fn show(&self, value: &[i32; 3]) -> String {
        value.map(|score| score.to_string()).join(" ")
    }

    fn conf(&self, value: &[i32; 3]) -> Vec<String> {
        vec![self.show(value)]
    }

    fn describe(&self) -> String {
        "three integers from -2000 to 2000".to_owned()
    }
}

/// Where a replica finds its primary.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Primary {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// `<host> <port>`, or `no one`.
pub struct ReplicaOf;

impl Setting<Option<Primary>> for ReplicaOf {
    fn parse(&self, args: &[&[u8]], _old: &Option<Primary>, _turn: Turn) -> Result<Option<Primary>, Fault> {
        let (name, port) = match args {
            [b""] => return Ok(None),
            [name, port] => (name, port),
            _ => return Err(Fault::count()),
        };
        if name.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
            return Ok(None);
        }
        let port = parse_i64(port).and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or_else(|| Fault::new("Invalid master port"))?;
        Ok(Some(Primary { host: host(name)?, port }))
    }

    fn show(&self, value: &Option<Primary>) -> String {
        value.as_ref().map_or(String::new(), |primary| format!("{} {}", primary.host, primary.port))
    }

    fn conf(&self, value: &Option<Primary>) -> Vec<String> {
        value.iter().map(|_| self.show(value)).collect()
    }

    fn describe(&self) -> String {
        "host and port, or: no one".to_owned()
    }
}

/// CPUs a process is bound to: numbers, ranges `a-b`, steps `a-b:n`, joined by commas.
pub struct CpuList;

impl Setting<String> for CpuList {
    fn parse(&self, args: &[&[u8]], _old: &String, _turn: Turn) -> Result<String, Fault> {
        let list = utf8(single(args)?)?;
        let known = list.bytes().all(|byte| byte.is_ascii_digit() || b",-:".contains(&byte));
        if known {
            Ok(list.to_owned())
        } else {
            Err(Fault::new("argument must be a list of CPUs such as 0-3,8:2"))
        }
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn describe(&self) -> String {
        "CPUs such as 0,2-3 or 0-7:2".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<V, S: Setting<V>>(kind: S, text: &str, old: V) -> Result<String, String> {
        let words: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
        let parsed = kind.parse(&words, &old, Turn::First);
        parsed.map(|value| kind.show(&value)).map_err(|fault| fault.reply)
    }

    #[test]
    fn save_points_come_in_pairs_and_add_up() {
        let old = vec![SavePoint { seconds: 900, changes: 1 }];
        assert_eq!(parse(SavePoints, "60 1 5 0", old.clone()), Ok("60 1 5 0".to_owned()));
        assert_eq!(parse(SavePoints, "", old.clone()), Ok(String::new()));
        for bad in ["60", "0 1", "60 -1", "a b", "60  1", "60 1 5", "60 2147483648"] {
            assert_eq!(
                parse(SavePoints, bad, Vec::new()),
                Err("Invalid save parameters".to_owned()),
                "{bad}"
            );
        }
        let more = SavePoints.parse(&[b"100", b"100"], &old, Turn::Again).unwrap();
        assert_eq!(SavePoints.show(&more), "900 1 100 100");
        assert_eq!(SavePoints.conf(&more), ["900 1", "100 100"]);
        assert_eq!(SavePoints.conf(&Vec::new()), ["\"\""]);
    }

    #[test]
    fn one_class_of_buffer_limits_leaves_the_others() {
        let set = |text| parse(OutputLimits, text, BufferLimits::DEFAULT);
        assert_eq!(
            set("replica 1mb 1k 7").unwrap(),
            "normal 0 0 0 slave 1048576 1000 7 pubsub 33554432 8388608 60"
        );
        assert_eq!(
            set("slave 0 0 0 NORMAL 5 4 3").unwrap(),
            "normal 5 4 3 slave 0 0 0 pubsub 33554432 8388608 60"
        );
        assert!(set("replica 1mb 1k").unwrap_err().starts_with("Wrong number of arguments in"));
        assert!(set("master 1 1 1").unwrap_err().starts_with("Invalid client class"));
        for bad in ["normal -1 0 0", "normal 0 x 0", "normal 0 0 -1", "normal 0 0 1k"] {
            assert!(set(bad).unwrap_err().starts_with("Error in hard, soft"), "{bad}");
        }
        assert_eq!(
            OutputLimits.conf(&BufferLimits::DEFAULT),
            ["normal 0 0 0", "replica 256mb 64mb 60", "pubsub 32mb 8mb 60"]
        );
    }

    #[test]
    fn event_classes_print_in_one_order() {
        let set = |text| parse(EventClasses, text, NotifyFlags::NONE);
        assert_eq!(set("KEA").unwrap(), "AKE");
        assert_eq!(set("KEg$lshzxetd").unwrap(), "AKE");
        assert_eq!(set("Eg$lshzxet").unwrap(), "g$lshzxetE");
        assert_eq!(set("Amn").unwrap(), "Anm");
        assert_eq!(set("").unwrap(), "");
        assert!(set("Q").unwrap_err().starts_with("Invalid event class character"));
    }

    #[test]
    fn shutdown_flags_combine() {
        let set = |text| parse(OnSignal, text, ShutdownFlags::DEFAULT);
        assert_eq!(set("force NOW nosave").unwrap(), "nosave now force");
        assert_eq!(set("default").unwrap(), "default");
        assert!(set("save nosave").unwrap_err().contains("simultaneously"));
        let names = "argument(s) must be one of the following: default, save, nosave, now, force";
        assert_eq!(set("never"), Err(names.to_owned()));
        assert!(OnSignal.parse(&[], &ShutdownFlags::DEFAULT, Turn::First).is_err());
    }

    #[test]
    fn small_lists() {
        let percentiles = |text| parse(Percentiles, text, Vec::new());
        assert_eq!(percentiles("50 99.90 100 0").unwrap(), "50 99.9 100 0");
        assert_eq!(percentiles("").unwrap(), "");
        assert!(percentiles("100.1").unwrap_err().contains("[0.0,100.0]"));
        assert!(percentiles("x").unwrap_err().starts_with("Invalid latency"));
        let scores = |text| parse(OomScores, text, [0; 3]);
        assert_eq!(scores("-2000 0 2000").unwrap(), "-2000 0 2000");
        assert!(scores("0 0 2001").unwrap_err().contains("between -2000 and 2000"));
        assert_eq!(scores("0 0"), Err("wrong number of arguments".to_owned()));
        let primary = |text| parse(ReplicaOf, text, None);
        assert_eq!(primary("host 6379").unwrap(), "host 6379");
        assert_eq!(primary("NO ONE").unwrap(), "");
        assert_eq!(primary("host 65536"), Err("Invalid master port".to_owned()));
        let addresses = |text| parse(Addresses, text, Vec::new());
        assert_eq!(addresses("127.0.0.1 -::1").unwrap(), "127.0.0.1 -::1");
        assert_eq!(addresses("").unwrap(), "");
        assert!(addresses(&"a ".repeat(17)).unwrap_err().starts_with("Too many"));
    }
}
