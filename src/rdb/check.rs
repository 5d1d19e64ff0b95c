//! The report of `--check-rdb`: reads a whole snapshot and throws it away, telling what it holds, or where it
//! is damaged and what was read just before. Writes its report to whoever reads; knows no file.

use super::format::{Format, Type};
use super::read::{Age, Loader, Progress, Refusal, Sink, Verify};
use crate::value::{Entry, Limits};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The snapshot is whole.
    Valid,
    /// It is damaged, or cannot be read.
    Damaged,
}

/// Counts what is read and tells about it.
struct Checker<'a> {
    out: &'a mut dyn Write,
    told: io::Result<()>,
    /// Bytes read before what is told now.
    offset: u64,
    now_ms: i64,
    doing: &'static str,
    key: Option<(Vec<u8>, Type)>,
    keys: BTreeMap<Type, u64>,
    volatile: u64,
    over: u64,
    empty: u64,
    libraries: u64,
    module_keys: u64,
}

impl Checker<'_> {
    fn tell(&mut self, text: &str) {
        let line = format!("[offset {}] {text}\n", self.offset);
        if self.told.is_ok() {
            self.told = self.out.write_all(line.as_bytes());
        }
    }

    fn info(&mut self, tag: &str, text: &str) {
        if self.told.is_ok() {
            self.told = writeln!(self.out, "[{tag}] {text}");
        }
    }

    fn summary(&mut self) {
        let keys: u64 = self.keys.values().sum();
        self.info("info", &format!("{keys} keys read"));
        for (of_type, count) in std::mem::take(&mut self.keys) {
            self.info("info", &format!("{count} of type {}", of_type.name()));
        }
        self.info("info", &format!("{} expires", self.volatile));
        self.info("info", &format!("{} already expired", self.over));
        let others = [
            (self.empty, "keys without elements, which are passed over"),
            (self.libraries, "function libraries"),
            (self.module_keys, "values of modules, which a server of AiKv cannot load"),
        ];
        for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
            self.info("info", &format!("{count} {what}"));
        }
    }

    fn explain(&mut self, error: &super::RdbError) {
        self.info("info", "--- RDB ERROR DETECTED ---");
        self.offset = error.offset;
        self.tell(&error.fault.to_string());
        self.info("additional info", &format!("While doing: {}", self.doing));
        if let Some((key, of_type)) = self.key.take() {
            self.info("additional info", &format!("Reading key '{}'", String::from_utf8_lossy(&key)));
            self.info("additional info", &format!("Reading type {} ({})", of_type.number, of_type.name()));
        }
    }
}

impl Sink for Checker<'_> {
    fn format(&mut self, format: Format) {
        let later = if format.is_newer() { ", which is later than known" } else { "" };
        self.tell(&format!("RDB version {format}{later}"));
        self.doing = "read-opcode";
    }

    fn fact(&mut self, name: &[u8], value: &[u8]) {
        let text = String::from_utf8_lossy;
        self.tell(&format!("AUX FIELD {} = '{}'", text(name), text(value)));
    }

    fn select(&mut self, db: u64) -> Result<(), Refusal> {
        self.tell(&format!("Selecting DB ID {db}"));
        Ok(())
    }

    fn begin(&mut self, of_type: Type, key: &[u8]) {
        self.key = Some((key.to_vec(), of_type));
        self.doing = "read-object-value";
    }

    fn entry(&mut self, entry: Entry, _: Age) -> Result<(), Refusal> {
        self.doing = "read-opcode";
        if let Some((_, of_type)) = self.key.take() {
            *self.keys.entry(of_type).or_default() += 1;
        }
        self.volatile += u64::from(entry.expiry().is_some());
        self.over += u64::from(entry.expiry().is_some_and(|at| at < self.now_ms));
        Ok(())
    }

    fn empty(&mut self, _: &[u8]) {
        self.key = None;
        self.empty += 1;
    }

    fn library(&mut self, _: &[u8]) -> Result<(), Refusal> {
        self.libraries += 1;
        Ok(())
    }

    fn module_aux(&mut self, module: &str) -> Result<(), Refusal> {
        self.tell(&format!("Data of module '{module}'"));
        Ok(())
    }

    fn module_value(&mut self, _: &str, _: &[u8]) -> Result<(), Refusal> {
        self.key = None;
        self.module_keys += 1;
        Ok(())
    }
}

/// Reads a snapshot and writes the report. `limits` decide how values are built for a moment, `now_ms`
/// (milliseconds since 1970) which of them are over. The error is that of writing the report.
pub fn check(
    source: impl Read,
    name: &str,
    limits: Limits,
    now_ms: i64,
    out: &mut dyn Write,
) -> io::Result<Verdict> {
    let mut checker = Checker {
        out,
        told: Ok(()),
        offset: 0,
        now_ms,
        doing: "start",
        key: None,
        keys: BTreeMap::new(),
        volatile: 0,
        over: 0,
        empty: 0,
        libraries: 0,
        module_keys: 0,
    };
    checker.tell(&format!("Checking RDB file {name}"));
    let mut loader = Loader::new(source, limits, Verify::Checksum);
    let verdict = loop {
        checker.offset = loader.position();
        match loader.step(&mut checker, 1) {
            Ok(Progress::More) => {}
            Ok(Progress::Done) => {
                checker.offset = loader.position();
                let sum = if loader.has_checksum() { "Checksum OK" } else { "There is no checksum" };
                checker.tell(sum);
                checker.tell("\\o/ RDB looks OK! \\o/");
                break Verdict::Valid;
            }
            Err(error) => {
                checker.explain(&error);
                break Verdict::Damaged;
            }
        }
    };
    checker.summary();
    checker.told.map(|()| verdict)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{filled, options, saved};
    use super::*;
    use crate::util::rng::Rng;

    fn report(file: &[u8]) -> (Verdict, String) {
        let mut out = Vec::new();
        let limits = Limits::from_config(&crate::config::Config::default());
        let verdict = check(file, "x.rdb", limits, i64::MAX, &mut out).unwrap();
        (verdict, String::from_utf8(out).unwrap())
    }

    #[test]
    fn whole_files_are_summed_up() {
        let (file, _) = saved(&filled(&mut Rng::from_seed(21), 40), &options());
        let (verdict, text) = report(&file);
        assert_eq!(verdict, Verdict::Valid);
        for line in ["Checking RDB file x.rdb", "AUX FIELD redis-ver = '7.4.1'", "Selecting DB ID 3"] {
            assert!(text.contains(line), "{text}");
        }
        let end = format!("[offset {}] \\o/ RDB looks OK! \\o/\n[info] 40 keys read\n", file.len());
        assert!(text.contains(&end) && text.contains("1 function libraries"), "{text}");
    }

    #[test]
    fn damage_is_told_with_its_place() {
        let (file, _) = saved(&filled(&mut Rng::from_seed(22), 5), &options());
        let (verdict, text) = report(&file[..file.len() - 30]);
        assert_eq!(verdict, Verdict::Damaged);
        assert!(text.contains("Unexpected end of the data") && text.contains("Reading key 'key:"), "{text}");
        let mut summed = file.clone();
        *summed.last_mut().unwrap() ^= 1;
        assert!(report(&summed).1.contains("RDB CRC error"));
        assert!(report(b"REDIX0010").1.contains("Wrong signature"));
        assert!(report(b"").1.contains("Unexpected end"));
    }
}
