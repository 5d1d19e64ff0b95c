//! Reading whole snapshots, in steps: what is read goes to a `Sink`, which may refuse it. A reader of the
//! format comes here for its outline, `Loader::next`.

use super::decode::Draft;
use super::format::{Family, Format, HEADER, Type, VERSION_CHECKSUM, kind as types, module, opcode};
use super::input::{Input, Reading};
use super::{Fault, RdbError};
use crate::value::{Entry, Fresh, Limits, is_empty};
use std::io::Read;

/// Refused by the sink: the reason.
pub type Refusal = String;

/// Access clocks of a key that is read, if they are in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Age {
    /// Seconds since the last use.
    pub idle_seconds: Option<u64>,
    /// The counter of uses.
    pub frequency: Option<u8>,
}

/// Takes what is read. The defaults pass over what is not data.
pub trait Sink {
    /// The head was read.
    fn format(&mut self, _format: Format) {}

    /// A fact about the file.
    fn fact(&mut self, _name: &[u8], _value: &[u8]) {}

    /// The next keys are of this database.
    fn select(&mut self, db: u64) -> Result<(), Refusal>;

    /// A hint: numbers of keys and of volatile keys in the database.
    fn sizes(&mut self, _keys: u64, _volatile: u64) {}

    /// A key begins: its type, for reports.
    fn begin(&mut self, _of_type: Type, _key: &[u8]) {}

    /// A key, as it is; its deadline may be over.
    fn entry(&mut self, entry: Entry, age: Age) -> Result<(), Refusal>;

    /// A key with a collection of nothing, which old versions could write: it is passed over.
    fn empty(&mut self, key: &[u8]);

    /// The source of a function library.
    fn library(&mut self, source: &[u8]) -> Result<(), Refusal>;

    /// Data of a module that belong to no key.
    fn module_aux(&mut self, module: &str) -> Result<(), Refusal>;

    /// A key of a type that a module brought: it cannot be taken in. An error ends the reading.
    fn module_value(&mut self, module: &str, key: &[u8]) -> Result<(), Refusal>;
}

/// How far reading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more.
    More,
    /// Everything was read, and the checksum was right.
    Done,
}

/// Whether the checksum at the end counts: the option rdbchecksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// It has to be right, if there is one.
    Checksum,
    /// Nobody looks.
    Nothing,
}

/// A snapshot that is being read.
pub struct Loader<R: Read> {
    input: Input<R>,
    limits: Limits,
    /// What the head says; none before it was read.
    format: Option<Format>,
    expiry: Option<i64>,
    age: Age,
    draft: Option<Draft>,
    key: Vec<u8>,
    has_checksum: bool,
}

impl<R: Read> Loader<R> {
    /// Reads from `source`, which needs no buffer of its own. Values get the encodings of `limits`.
    pub fn new(source: R, limits: Limits, verify: Verify) -> Self {
        let input = Input::new(source);
        let input = if verify == Verify::Nothing { input.without_checksum() } else { input };
        let (expiry, age) = (None, Age::default());
        Loader { input, limits, format: None, expiry, age, draft: None, key: Vec::new(), has_checksum: false }
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.input.position()
    }

    /// Whether the end that was read had a checksum.
    pub fn has_checksum(&self) -> bool {
        self.has_checksum
    }

    /// Gives the source back, with what was read from it behind the end of the snapshot.
    pub fn into_source(self) -> (R, Vec<u8>) {
        self.input.into_source()
    }

    /// Reads on for about `budget` bytes. After an error there is no going on.
    pub fn step(&mut self, sink: &mut impl Sink, budget: u64) -> Reading<Progress> {
        let until = self.position().saturating_add(budget);
        if self.format.is_none() {
            let format = self.head()?;
            self.format = Some(format);
            sink.format(format);
        }
        loop {
            if self.next(sink, until)? == Progress::Done {
                return Ok(Progress::Done);
            }
            if self.position() >= until {
                return Ok(Progress::More);
            }
        }
    }

    fn head(&mut self) -> Reading<Format> {
        let head: [u8; HEADER] = self.input.array()?;
        match Format::of_head(&head) {
            None => Err(self.input.corrupt("Wrong signature trying to load DB from file")),
            Some(format) => {
                format.map_err(|digits| self.input.fault(Fault::unknown("format version", digits)))
            }
        }
    }

    fn family(&self) -> Family {
        self.format.map_or(Family::Redis, |format| format.family)
    }

    /// Reads up to the end of one key or opcode.
    fn next(&mut self, sink: &mut impl Sink, until: u64) -> Reading<Progress> {
        if self.draft.is_some() {
            self.go_on(sink, until)?;
            return Ok(Progress::More);
        }
        let input = &mut self.input;
        match input.byte()? {
            opcode::EXPIRE_SECONDS => {
                self.expiry = Some(i64::from(i32::from_le_bytes(input.array()?)) * 1000);
            }
            opcode::EXPIRE_MS => self.expiry = Some(input.fixed64()? as i64),
            opcode::FREQUENCY => self.age.frequency = Some(input.byte()?),
            opcode::IDLE => self.age.idle_seconds = Some(input.length()?),
            opcode::SELECT => {
                let db = input.length()?;
                sink.select(db).map_err(|reason| input.fault(Fault::Refused(reason)))?;
            }
            opcode::SIZES => sink.sizes(input.length()?, input.length()?),
            opcode::SLOT_INFO => {
                for _ in 0..3 {
                    input.length()?;
                }
            }
            opcode::AUX => {
                input.string_into(&mut self.key)?;
                let value = input.string()?;
                sink.fact(&self.key, &value.bytes());
            }
            opcode::FUNCTION => {
                let refused = sink.library(&input.string()?.bytes());
                refused.map_err(|reason| input.fault(Fault::Refused(reason)))?;
            }
            opcode::FUNCTION_PRE_GA => {
                let text = "Functions in the form of release candidates of Redis 7.0 are not supported";
                return Err(input.fault(Fault::Refused(text.to_string())));
            }
            opcode::MODULE_AUX => self.module_aux(sink)?,
            opcode::VALKEY_SLOT_IMPORT if self.family() == Family::Valkey => {
                let text = "Slots of a cluster were being imported when the snapshot was made, so their data \
                            is not whole: take one when the import is over";
                return Err(self.input.fault(Fault::Refused(text.to_string())));
            }
            opcode::END => {
                self.end()?;
                return Ok(Progress::Done);
            }
            of_type => self.begin(sink, of_type, until)?,
        }
        Ok(Progress::More)
    }

    fn begin(&mut self, sink: &mut impl Sink, number: u8, until: u64) -> Reading<()> {
        let of_type = Type { number, family: self.family() };
        let Loader { input, key, limits, .. } = self;
        input.string_into(key)?;
        sink.begin(of_type, key);
        if matches!(number, types::MODULE_PRE_GA | types::MODULE_2) {
            return self.module_value(sink, number);
        }
        self.draft = Some(Draft::begin(input, of_type, Fresh { key, expiry: self.expiry }, limits)?);
        self.go_on(sink, until)
    }

    fn go_on(&mut self, sink: &mut impl Sink, until: u64) -> Reading<()> {
        let Some(draft) = &mut self.draft else { return Ok(()) };
        if !draft.step(&mut self.input, &self.limits, until)? {
            return Ok(());
        }
        let (_, age) = self.take_attributes();
        let entry = self.draft.take().expect("it was there").into_entry();
        if is_empty(&entry) {
            sink.empty(entry.key());
            return Ok(());
        }
        sink.entry(entry, age).map_err(|reason| self.input.fault(Fault::Refused(reason)))
    }

    /// What was said of the key that ends here holds for no other.
    fn take_attributes(&mut self) -> (Option<i64>, Age) {
        (self.expiry.take(), std::mem::take(&mut self.age))
    }

    fn module_aux(&mut self, sink: &mut impl Sink) -> Reading<()> {
        let input = &mut self.input;
        let name = module_name(input.length()?);
        if input.length()? != module::UNSIGNED {
            return Err(input.corrupt("Module aux data without a time"));
        }
        input.length()?;
        skip_module_data(input)?;
        sink.module_aux(&name).map_err(|reason| input.fault(Fault::Refused(reason)))
    }

    fn module_value(&mut self, sink: &mut impl Sink, of_type: u8) -> Reading<()> {
        let input = &mut self.input;
        if of_type == types::MODULE_PRE_GA {
            let text = "Values of modules from before Redis 4.0 are not supported";
            return Err(input.fault(Fault::Refused(text.to_string())));
        }
        let name = module_name(input.length()?);
        skip_module_data(input)?;
        sink.module_value(&name, &self.key).map_err(|reason| input.fault(Fault::Refused(reason)))?;
        self.take_attributes();
        Ok(())
    }

    fn end(&mut self) -> Reading<()> {
        if self.format.is_some_and(|format| format.version < VERSION_CHECKSUM) {
            // Where there is a checksum, a damaged version number must not hide it.
            return match self.input.is_at_end()? {
                true => Ok(()),
                false => Err(self.input.corrupt("Bytes behind the end of the snapshot")),
            };
        }
        let counted = self.input.checksum();
        let wanted = self.input.fixed64()?;
        // Zero says that the writer did not count.
        self.has_checksum = wanted != 0;
        if wanted == 0 || !self.input.counts() || wanted == counted {
            return Ok(());
        }
        let text = format!("RDB CRC error: the checksum is {counted:016x}, the file says {wanted:016x}");
        Err(self.input.fault(Fault::Corrupt(text.into())))
    }
}

/// Reads a whole snapshot.
pub fn read<R: Read>(
    source: R,
    limits: Limits,
    verify: Verify,
    sink: &mut impl Sink,
) -> Result<(), RdbError> {
    let mut loader = Loader::new(source, limits, verify);
    while loader.step(sink, u64::MAX)? == Progress::More {}
    Ok(())
}

/// Passes over the data of a module, which tell of each part what it is.
fn skip_module_data<R: Read>(input: &mut Input<R>) -> Reading<()> {
    loop {
        match input.length()? {
            module::END => return Ok(()),
            module::SIGNED | module::UNSIGNED => drop(input.length()?),
            module::FLOAT => drop(input.take(4)?),
            module::DOUBLE => drop(input.take(8)?),
            module::STRING => input.skip_string()?,
            unknown => return Err(input.fault(Fault::unknown("module opcode", unknown))),
        }
    }
}

/// The nine letters of a module's type, of six bits each, above ten bits of a version.
fn module_name(id: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..9).map(|i| char::from(LETTERS[(id >> (10 + 6 * (8 - i)) & 63) as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_ids_have_names() {
        let letters = |name: &str| {
            name.bytes().fold(0u64, |id, letter| {
                let at = match letter {
                    b'A'..=b'Z' => letter - b'A',
                    b'a'..=b'z' => letter - b'a' + 26,
                    b'0'..=b'9' => letter - b'0' + 52,
                    b'-' => 62,
                    _ => 63,
                };
                id << 6 | u64::from(at)
            })
        };
        for name in ["ReJSON-RL", "MBbloom--", "A23456789"] {
            assert_eq!(module_name(letters(name) << 10 | 3), name);
        }
    }
}
