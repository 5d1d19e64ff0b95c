//! The keyspace entry: key, value (or the way to it), expiry, clock and flags in one block of exact size.
//! It gives meaning to none of them: the kind is the caller's type tag, the clock the caller's LRU or LFU
//! field, the flags the caller's marks. Come here for what a key costs: 8 bytes of header, 8 if it expires,
//! 8 for a value that is not inline, the key and the inline value.
//!
//! Layout, from the low address, everything aligned to 8 up to the key:
//! `header | expiry? | payload word? | key length? | key bytes | inline value bytes`
//!
//! Header, from the low bit: kind 4, class 2, has-expiry 1, long-key 1, flags 4, spare 4, clock 24, inline
//! length 8, key length 16. A key of 65,536 bytes or more has its length in a word of its own.

use super::blob::Blob;
use super::dict::{Mut, Ref, Slot};
use super::size_class;
use crate::sys::defrag::Mover;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// The longest value an entry holds inline, in bytes.
pub const MAX_INLINE: usize = 255;

const WORD: usize = 8;
const ALIGN: usize = 8;
const LONG_KEY: usize = 1 << 16;

const KIND: Field = Field { shift: 0, bits: 4 };
const CLASS: Field = Field { shift: 4, bits: 2 };
const HAS_EXPIRY: Field = Field { shift: 6, bits: 1 };
const HAS_LONG_KEY: Field = Field { shift: 7, bits: 1 };
const FLAGS: Field = Field { shift: 8, bits: 4 };
const CLOCK: Field = Field { shift: 16, bits: 24 };
const INLINE_LEN: Field = Field { shift: 40, bits: 8 };
const KEY_LEN: Field = Field { shift: 48, bits: 16 };

/// Classes of payloads; every one but the inline class has a payload word.
const INLINE: u64 = 0;
const INT: u64 = 1;
const BLOB: u64 = 2;
const OBJECT: u64 = 3;

/// A mark of the caller on an entry; it survives changes of payload, expiry and name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// First mark; the caller says what it means.
    A,
    /// Second mark.
    B,
    /// Third mark.
    C,
    /// Fourth mark.
    D,
}

/// A look at a value.
#[derive(Debug)]
pub enum Payload<'a, V> {
    /// Bytes inside the entry.
    Inline(&'a [u8]),
    /// An integer inside the entry.
    Int(i64),
    /// A shared buffer.
    Blob(&'a Blob),
    /// A boxed object.
    Object(&'a V),
}

/// A value to be changed in place.
#[derive(Debug)]
pub enum PayloadMut<'a, V> {
    /// Bytes inside the entry; for another length use `set_payload`.
    Inline(&'a mut [u8]),
    /// An integer inside the entry.
    Int(&'a mut i64),
    /// A shared buffer.
    Blob(&'a mut Blob),
    /// A boxed object.
    Object(&'a mut V),
}

/// A value to be stored.
#[derive(Debug)]
pub enum NewPayload<'a, V> {
    /// Bytes to be copied into the entry, at most `MAX_INLINE`.
    Inline(&'a [u8]),
    /// An integer.
    Int(i64),
    /// A shared buffer.
    Blob(Blob),
    /// A boxed object.
    Object(Box<V>),
}

/// A value that was taken out.
#[derive(Debug)]
pub enum OwnedPayload<V> {
    /// A copy of the inline bytes.
    Inline(Vec<u8>),
    /// An integer.
    Int(i64),
    /// A shared buffer.
    Blob(Blob),
    /// A boxed object.
    Object(Box<V>),
}

impl<V> OwnedPayload<V> {
    /// The value, to be stored again; inline bytes stay where they are.
    pub fn as_new(self, inline: &mut Vec<u8>) -> NewPayload<'_, V> {
        match self {
            OwnedPayload::Inline(bytes) => {
                *inline = bytes;
                NewPayload::Inline(inline)
            }
            OwnedPayload::Int(n) => NewPayload::Int(n),
            OwnedPayload::Blob(blob) => NewPayload::Blob(blob),
            OwnedPayload::Object(object) => NewPayload::Object(object),
        }
    }
}

/// All an entry held, see `Entry::into_parts`.
#[derive(Debug)]
pub struct Parts<V> {
    /// The key.
    pub key: Vec<u8>,
    /// The caller's type tag, below 16.
    pub kind: u8,
    /// The deadline in milliseconds, if it has one.
    pub expiry: Option<i64>,
    /// The caller's clock, 24 bits.
    pub clock: u32,
    /// The value.
    pub payload: OwnedPayload<V>,
}

/// One key of a keyspace with its value; an owning handle of 8 bytes.
#[repr(transparent)]
pub struct Entry<V> {
    block: NonNull<u8>,
    value: PhantomData<Box<V>>,
}

// SAFETY: an entry owns its block and the value behind it, like a box.
unsafe impl<V: Send> Send for Entry<V> {}
// SAFETY: a shared entry gives out only shared looks at the value.
unsafe impl<V: Sync> Sync for Entry<V> {}

// SAFETY: transparent around the pointer; blocks are aligned to 8; the key changes only in `renamed`, which
// takes the entry by value.
unsafe impl<V> Slot for Entry<V> {
    #[inline(always)]
    fn into_ptr(self) -> NonNull<u8> {
        ManuallyDrop::new(self).block
    }

    #[inline(always)]
    unsafe fn from_ptr(address: NonNull<u8>) -> Self {
        Entry { block: address, value: PhantomData }
    }

    #[inline(always)]
    fn key(&self) -> &[u8] {
        Entry::key(self)
    }
}

/// A run of bits of the header.
struct Field {
    shift: u32,
    bits: u32,
}

impl Field {
    const fn max(&self) -> u64 {
        (1 << self.bits) - 1
    }
}

/// The header word, which tells everything about the layout except the length of a long key.
#[derive(Clone, Copy)]
struct Header(u64);

impl Header {
    #[inline(always)]
    fn get(self, field: Field) -> u64 {
        self.0 >> field.shift & field.max()
    }

    #[inline(always)]
    fn with(self, field: Field, value: u64) -> Header {
        debug_assert!(value <= field.max());
        Header(self.0 & !(field.max() << field.shift) | value << field.shift)
    }

    /// Offset of the payload word, if there is one.
    #[inline(always)]
    fn word_offset(self) -> usize {
        WORD + WORD * self.get(HAS_EXPIRY) as usize
    }

    #[inline(always)]
    fn has_word(self) -> bool {
        self.get(CLASS) != INLINE
    }

    #[inline(always)]
    fn key_offset(self) -> usize {
        self.word_offset() + WORD * (usize::from(self.has_word()) + self.get(HAS_LONG_KEY) as usize)
    }
}

/// A payload on its way into a block: what goes where.
enum Lowered<'a> {
    Inline(&'a [u8]),
    Word(u64, Word),
}

/// The payload word, typed, so that addresses stay addresses.
#[derive(Clone, Copy)]
union Word {
    int: i64,
    /// A `Blob`, which is one pointer.
    blob: NonNull<u8>,
    object: NonNull<u8>,
}

impl<'a> Lowered<'a> {
    fn new<V>(payload: NewPayload<'a, V>) -> Lowered<'a> {
        match payload {
            NewPayload::Inline(bytes) => {
                assert!(bytes.len() <= MAX_INLINE, "an inline value is too long");
                Lowered::Inline(bytes)
            }
            NewPayload::Int(int) => Lowered::Word(INT, Word { int }),
            NewPayload::Blob(blob) => Lowered::Word(BLOB, Word { blob: blob.into_ptr() }),
            NewPayload::Object(object) => {
                Lowered::Word(OBJECT, Word { object: NonNull::from(Box::leak(object)).cast() })
            }
        }
    }

    fn class(&self) -> u64 {
        match self {
            Lowered::Inline(_) => INLINE,
            Lowered::Word(class, _) => *class,
        }
    }

    fn inline_len(&self) -> u64 {
        match self {
            Lowered::Inline(bytes) => bytes.len() as u64,
            Lowered::Word(..) => 0,
        }
    }
}

impl<V> Entry<V> {
    /// A new entry with clock 0 and no flag. `kind` is below 16, `expiry` in milliseconds.
    pub fn new(key: &[u8], kind: u8, payload: NewPayload<'_, V>, expiry: Option<i64>) -> Self {
        let header = Header(0).with(KIND, u64::from(kind));
        Entry::build(header, key, &Lowered::new(payload), expiry)
    }

    /// The key.
    #[inline(always)]
    pub fn key(&self) -> &[u8] {
        let header = self.header();
        // SAFETY: header and long-key word say where the key lies in the block.
        unsafe {
            std::slice::from_raw_parts(self.block.add(header.key_offset()).as_ptr(), self.key_len(header))
        }
    }

    /// The caller's type tag.
    #[inline(always)]
    pub fn kind(&self) -> u8 {
        self.header().get(KIND) as u8
    }

    /// The value.
    #[inline(always)]
    pub fn payload(&self) -> Payload<'_, V> {
        // SAFETY: the block is alive and unchanged as long as `self` is borrowed.
        unsafe { self.payload_for() }
    }

    /// The value, to be changed in place.
    #[inline(always)]
    pub fn payload_mut(&mut self) -> PayloadMut<'_, V> {
        // SAFETY: the block is alive and nobody else's as long as `self` is borrowed.
        unsafe { self.payload_mut_for() }
    }

    /// Stores another value and drops the old one. Key, expiry, clock and flags stay. In place when the
    /// new one has the same size and is as much inline as the old one.
    pub fn set_payload(&mut self, kind: u8, payload: NewPayload<'_, V>) {
        drop(self.take_word());
        self.put(kind, Lowered::new(payload));
    }

    /// Stores another value and gives the old one.
    pub fn replace_payload(&mut self, kind: u8, payload: NewPayload<'_, V>) -> OwnedPayload<V> {
        let old = match self.payload() {
            Payload::Inline(bytes) => OwnedPayload::Inline(bytes.to_vec()),
            _ => self.take_word().expect("only inline values have no word"),
        };
        self.put(kind, Lowered::new(payload));
        old
    }

    /// Takes the value out and leaves empty inline bytes of the same kind.
    pub fn take_payload(&mut self) -> OwnedPayload<V> {
        self.replace_payload(self.kind(), NewPayload::Inline(b""))
    }

    /// Takes the entry apart.
    pub fn into_parts(mut self) -> Parts<V> {
        let (kind, expiry, clock) = (self.kind(), self.expiry(), self.clock());
        Parts { key: self.key().to_vec(), kind, expiry, clock, payload: self.take_payload() }
    }

    /// The deadline in milliseconds, if it has one.
    #[inline(always)]
    pub fn expiry(&self) -> Option<i64> {
        if self.header().get(HAS_EXPIRY) == 0 {
            return None;
        }
        // SAFETY: the header says that the second word is the expiry.
        Some(unsafe { self.block.add(WORD).cast().read() })
    }

    /// Sets or removes the deadline. Setting the first and removing one moves the entry.
    pub fn set_expiry(&mut self, expiry: Option<i64>) {
        let header = self.header();
        let had = header.get(HAS_EXPIRY) as usize;
        let has = usize::from(expiry.is_some());
        if had != has {
            let old = self.layout();
            let new_header = header.with(HAS_EXPIRY, has as u64);
            let block = allocate(old.size() - WORD * had + WORD * has);
            // SAFETY: everything behind the expiry (payload word, key, bytes) keeps its order and size; the
            // new block has room for it by construction, and the old one is not used afterwards.
            unsafe {
                block.cast().write(new_header);
                let rest = self.block.add(WORD + WORD * had);
                rest.copy_to_nonoverlapping(block.add(WORD + WORD * has), old.size() - WORD - WORD * had);
                dealloc(self.block.as_ptr(), old);
            }
            self.block = block;
        }
        if let Some(deadline) = expiry {
            // SAFETY: the block has an expiry word now.
            unsafe { self.block.add(WORD).cast().write(deadline) }
        }
    }

    /// The caller's clock: 24 bits.
    #[inline(always)]
    pub fn clock(&self) -> u32 {
        self.header().get(CLOCK) as u32
    }

    /// Sets the caller's clock to the low 24 bits of `clock`.
    #[inline(always)]
    pub fn set_clock(&mut self, clock: u32) {
        self.set_header(self.header().with(CLOCK, u64::from(clock) & CLOCK.max()));
    }

    /// Whether a mark is set.
    #[inline(always)]
    pub fn flag(&self, flag: Flag) -> bool {
        self.header().get(FLAGS) >> flag as u32 & 1 != 0
    }

    /// Sets or clears a mark.
    #[inline(always)]
    pub fn set_flag(&mut self, flag: Flag, on: bool) {
        let flags = self.header().get(FLAGS) & !(1 << flag as u32) | u64::from(on) << flag as u32;
        self.set_header(self.header().with(FLAGS, flags));
    }

    /// The same entry under another key.
    pub fn renamed(mut self, key: &[u8]) -> Self {
        let header = self.header();
        let lowered = match self.payload() {
            // SAFETY: the bytes stay in the old block, which lives to the end of this function.
            Payload::Inline(bytes) => Lowered::Inline(unsafe { &*std::ptr::from_ref(bytes) }),
            _ => Lowered::Word(header.get(CLASS), self.word()),
        };
        let new = Entry::build(header, key, &lowered, self.expiry());
        // The word now belongs to the new block.
        self.set_class_without_word();
        new
    }

    /// Moves the entry's block, and that of its blob or box, for active defragmentation; what an object holds
    /// is its own business. Nobody else has a pointer to any of them: tables keep the entry's address and
    /// learn the new one from the loan ([`Mut`]), wheels and waiters remember hashes and keys.
    pub fn relocate(&mut self, mover: &mut Mover) {
        // SAFETY: this handle is the only owner of the block.
        if let Some(block) = unsafe { mover.moved(self.block, self.layout()) } {
            self.block = block;
        }
        if let PayloadMut::Blob(blob) = self.payload_mut() {
            return blob.relocate(mover);
        }
        if self.header().get(CLASS) == OBJECT && size_of::<V>() > 0 {
            // SAFETY: the word is the address of a box of `V` that the entry owns.
            unsafe {
                let word = self.block.add(self.header().word_offset()).cast::<Word>();
                if let Some(object) = mover.moved(word.read().object, Layout::new::<V>()) {
                    word.write(Word { object });
                }
            }
        }
    }

    /// Bytes the allocator spends on the entry's own block; blobs and objects come on top.
    #[inline]
    pub fn allocated_bytes(&self) -> usize {
        size_class(self.layout().size())
    }

    /// Makes a block. Kind, flags and clock are taken from `header`, the rest of it is set.
    fn build(header: Header, key: &[u8], payload: &Lowered<'_>, expiry: Option<i64>) -> Self {
        let long = key.len() >= LONG_KEY;
        let header = header
            .with(CLASS, payload.class())
            .with(HAS_EXPIRY, u64::from(expiry.is_some()))
            .with(HAS_LONG_KEY, u64::from(long))
            .with(INLINE_LEN, payload.inline_len())
            .with(KEY_LEN, if long { 0 } else { key.len() as u64 });
        let key_offset = header.key_offset();
        let size = key_offset + key.len() + payload.inline_len() as usize;
        let block = allocate(size);
        // SAFETY: the offsets follow from the header, and the block was made for all the parts.
        unsafe {
            block.cast().write(header);
            if let Some(deadline) = expiry {
                block.add(WORD).cast().write(deadline);
            }
            if long {
                block.add(key_offset - WORD).cast().write(key.len());
            }
            let bytes = block.add(key_offset).as_ptr();
            bytes.copy_from_nonoverlapping(key.as_ptr(), key.len());
            match payload {
                Lowered::Inline(value) => {
                    bytes.add(key.len()).copy_from_nonoverlapping(value.as_ptr(), value.len());
                }
                Lowered::Word(_, word) => block.add(header.word_offset()).cast().write(*word),
            }
        }
        Entry { block, value: PhantomData }
    }

    /// Stores a payload where the old one needs no drop any more (see `take_word`).
    fn put(&mut self, kind: u8, new: Lowered<'_>) {
        let header = self.header().with(KIND, u64::from(kind));
        let same_word = header.has_word() == matches!(new, Lowered::Word(..));
        match new {
            Lowered::Word(class, word) if same_word => {
                self.set_header(header.with(CLASS, class));
                // SAFETY: the block has a payload word.
                unsafe { self.block.add(header.word_offset()).cast().write(word) }
            }
            Lowered::Inline(bytes) if same_word => self.put_inline(header, bytes),
            _ => {
                let built: Self = Entry::build(header, self.key(), &new, self.expiry());
                // SAFETY: the old block's payload is gone or inline, so only the block itself is given back.
                unsafe { dealloc(self.block.as_ptr(), self.layout()) }
                self.block = ManuallyDrop::new(built).block;
            }
        }
    }

    /// Puts inline bytes in the place of inline bytes.
    fn put_inline(&mut self, header: Header, bytes: &[u8]) {
        let old = self.layout();
        let old_len = header.get(INLINE_LEN) as usize;
        let value_offset = old.size() - old_len;
        if old_len != bytes.len() {
            let size = value_offset + bytes.len();
            // The value is the last part, so all others stay where they are.
            self.resize_block(old, size);
        }
        self.set_header(header.with(INLINE_LEN, bytes.len() as u64));
        // SAFETY: the block has room for the bytes behind the key. The bytes are not part of the block:
        // they are borrowed from elsewhere while `self` is borrowed exclusively.
        unsafe {
            self.block.add(value_offset).as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
    }

    /// Puts a gap of `inserted` bytes of any content in the place of `removed` bytes at `at` of an inline
    /// value, which must not grow beyond `MAX_INLINE`, and gives the whole value.
    pub fn splice_inline(&mut self, at: usize, removed: usize, inserted: usize) -> &mut [u8] {
        let header = self.header();
        assert!(!header.has_word(), "the value is inline");
        let (old, len) = (self.layout(), header.get(INLINE_LEN) as usize);
        let (value, tail) = (old.size() - len, at + removed);
        let new_len = len + inserted - removed;
        assert!(tail <= len && new_len <= MAX_INLINE, "the value stays inline");
        if inserted > removed {
            self.resize_block(old, value + new_len);
            // SAFETY: the block now ends `new_len` bytes behind `value`; the added bytes are initialised here
            // and the tail moves to the end, over them.
            unsafe {
                let bytes = self.block.add(value);
                bytes.add(len).write_bytes(0, new_len - len);
                bytes.add(tail).copy_to(bytes.add(at + inserted), len - tail);
            }
        } else {
            // SAFETY: both ranges lie in the value.
            unsafe {
                let bytes = self.block.add(value);
                bytes.add(tail).copy_to(bytes.add(at + inserted), len - tail);
            }
            if new_len != len {
                self.resize_block(old, value + new_len);
            }
        }
        self.set_header(header.with(INLINE_LEN, new_len as u64));
        // SAFETY: the last `new_len` bytes of the block are the value, all initialised.
        unsafe { std::slice::from_raw_parts_mut(self.block.add(value).as_ptr(), new_len) }
    }

    /// Reallocates the block; header and lengths are the caller's business.
    fn resize_block(&mut self, old: Layout, size: usize) {
        // SAFETY: the block was allocated with this layout, and the new size holds the header at least.
        let block = unsafe { realloc(self.block.as_ptr(), old, size) };
        let Some(block) = NonNull::new(block) else { handle_alloc_error(layout_of(size)) };
        self.block = block;
    }

    /// Takes the payload out of the word, so that nothing in the block needs a drop; none when inline.
    /// The block is left with an integer.
    fn take_word(&mut self) -> Option<OwnedPayload<V>> {
        if !self.header().has_word() {
            return None;
        }
        let word = self.word();
        let class = self.header().get(CLASS);
        self.set_class_without_word();
        // SAFETY: the class says which field was written; it says integer from now on, so there is one owner.
        Some(unsafe {
            match class {
                INT => OwnedPayload::Int(word.int),
                BLOB => OwnedPayload::Blob(Blob::from_ptr(word.blob)),
                _ => OwnedPayload::Object(Box::from_raw(word.object.cast().as_ptr())),
            }
        })
    }

    /// Declares a payload word an integer, which needs no drop.
    fn set_class_without_word(&mut self) {
        if self.header().has_word() {
            self.set_header(self.header().with(CLASS, INT));
        }
    }

    /// The payload word; the header must say that there is one.
    fn word(&self) -> Word {
        debug_assert!(self.header().has_word());
        // SAFETY: the header says that there is a payload word.
        unsafe { self.block.add(self.header().word_offset()).cast().read() }
    }

    /// # Safety
    /// The block lives and stays unchanged for `'a`.
    #[inline(always)]
    unsafe fn payload_for<'a>(&self) -> Payload<'a, V> {
        let header = self.header();
        // SAFETY: the header says what lies where; the caller vouches for the time.
        unsafe {
            let word = self.block.add(header.word_offset());
            match header.get(CLASS) {
                INLINE => {
                    let value = self.block.add(header.key_offset() + self.key_len(header));
                    let len = header.get(INLINE_LEN) as usize;
                    Payload::Inline(std::slice::from_raw_parts(value.as_ptr(), len))
                }
                INT => Payload::Int(word.cast().read()),
                BLOB => Payload::Blob(word.cast().as_ref()),
                _ => Payload::Object(word.cast::<NonNull<V>>().read().as_ref()),
            }
        }
    }

    /// # Safety
    /// The block lives and belongs to the result alone for `'a`.
    #[inline(always)]
    unsafe fn payload_mut_for<'a>(&mut self) -> PayloadMut<'a, V> {
        let header = self.header();
        // SAFETY: the header says what lies where; the caller vouches for the time.
        unsafe {
            let word = self.block.add(header.word_offset());
            match header.get(CLASS) {
                INLINE => {
                    let value = self.block.add(header.key_offset() + self.key_len(header));
                    let len = header.get(INLINE_LEN) as usize;
                    PayloadMut::Inline(std::slice::from_raw_parts_mut(value.as_ptr(), len))
                }
                INT => PayloadMut::Int(word.cast().as_mut()),
                BLOB => PayloadMut::Blob(word.cast().as_mut()),
                _ => PayloadMut::Object(word.cast::<NonNull<V>>().read().as_mut()),
            }
        }
    }

    #[inline(always)]
    fn header(&self) -> Header {
        // SAFETY: a block begins with its header.
        unsafe { self.block.cast().read() }
    }

    #[inline(always)]
    fn set_header(&mut self, header: Header) {
        // SAFETY: a block begins with its header.
        unsafe { self.block.cast().write(header) }
    }

    #[inline(always)]
    fn key_len(&self, header: Header) -> usize {
        if header.get(HAS_LONG_KEY) == 0 {
            return header.get(KEY_LEN) as usize;
        }
        // SAFETY: the word before a long key is its length.
        unsafe { self.block.add(header.key_offset() - WORD).cast().read() }
    }

    /// The layout the block was allocated with.
    #[inline(always)]
    fn layout(&self) -> Layout {
        let header = self.header();
        layout_of(header.key_offset() + self.key_len(header) + header.get(INLINE_LEN) as usize)
    }
}

impl<V> Drop for Entry<V> {
    fn drop(&mut self) {
        drop(self.take_word());
        // SAFETY: the payload is gone, and this is the end of the only owner of the block.
        unsafe { dealloc(self.block.as_ptr(), self.layout()) }
    }
}

impl<V: fmt::Debug> fmt::Debug for Entry<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = String::from_utf8_lossy(self.key());
        let mut debug = f.debug_struct("Entry");
        debug.field("key", &key).field("kind", &self.kind()).field("expiry", &self.expiry());
        debug.field("payload", &self.payload()).finish()
    }
}

impl<'a, V> Ref<'a, Entry<V>> {
    /// The key, for as long as the table is borrowed.
    #[inline(always)]
    pub fn into_key(self) -> &'a [u8] {
        let key: *const [u8] = self.key();
        // SAFETY: the key lies in the entry's block, which lives and stays as it is for `'a`.
        unsafe { &*key }
    }

    /// The value, for as long as the table is borrowed.
    #[inline(always)]
    pub fn into_payload(self) -> Payload<'a, V> {
        // SAFETY: the block lives and stays as it is for `'a`.
        unsafe { self.payload_for() }
    }
}

impl<'a, V> Mut<'a, Entry<V>> {
    /// The value, to be changed in place, for as long as the table is borrowed.
    #[inline(always)]
    pub fn into_payload_mut(mut self) -> PayloadMut<'a, V> {
        // SAFETY: the table is borrowed exclusively for `'a`, and this handle ends here.
        unsafe { self.payload_mut_for() }
    }
}

fn layout_of(size: usize) -> Layout {
    Layout::from_size_align(size, ALIGN).expect("an entry fits the address space")
}

fn allocate(size: usize) -> NonNull<u8> {
    let layout = layout_of(size);
    // SAFETY: a block has at least a header, so its size is not zero.
    let block = unsafe { alloc(layout) };
    NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collections::dict::Dict;
    use crate::collections::hash::hash_key;
    use crate::collections::testing::Random;
    use crate::sys::defrag::Select;
    use std::rc::Rc;

    #[derive(Debug, Clone, PartialEq)]
    enum Value {
        Inline(Vec<u8>),
        Int(i64),
        Blob(Vec<u8>),
        Object(u64),
    }

    /// What an entry should hold.
    struct Model {
        key: Vec<u8>,
        kind: u8,
        value: Value,
        expiry: Option<i64>,
        clock: u32,
        flags: [bool; 4],
    }

    /// An object that counts how many of it are alive.
    type Object = (u64, Rc<()>);

    fn some_bytes(random: &mut Random, max: u64) -> Vec<u8> {
        let len = random.below(max + 1);
        (0..len).map(|_| random.next() as u8).collect()
    }

    fn some_key(random: &mut Random) -> Vec<u8> {
        match random.below(20) {
            0 => vec![7; LONG_KEY - 1 + random.below(3) as usize],
            _ => some_bytes(random, 40),
        }
    }

    fn some_value(random: &mut Random) -> Value {
        match random.below(4) {
            0 => Value::Inline(some_bytes(random, MAX_INLINE as u64)),
            1 => Value::Int(random.next() as i64),
            2 => Value::Blob(some_bytes(random, 600)),
            _ => Value::Object(random.next()),
        }
    }

    fn payload<'a>(value: &'a Value, alive: &Rc<()>) -> NewPayload<'a, Object> {
        match value {
            Value::Inline(bytes) => NewPayload::Inline(bytes),
            Value::Int(int) => NewPayload::Int(*int),
            Value::Blob(bytes) => NewPayload::Blob(Blob::from_slice(bytes)),
            Value::Object(number) => NewPayload::Object(Box::new((*number, alive.clone()))),
        }
    }

    fn value_of(owned: OwnedPayload<Object>) -> Value {
        match owned {
            OwnedPayload::Inline(bytes) => Value::Inline(bytes),
            OwnedPayload::Int(int) => Value::Int(int),
            OwnedPayload::Blob(blob) => Value::Blob(blob.as_slice().to_vec()),
            OwnedPayload::Object(object) => Value::Object(object.0),
        }
    }

    fn check(entry: &Entry<Object>, model: &Model) {
        let value = match entry.payload() {
            Payload::Inline(bytes) => Value::Inline(bytes.to_vec()),
            Payload::Int(int) => Value::Int(int),
            Payload::Blob(blob) => Value::Blob(blob.as_slice().to_vec()),
            Payload::Object(object) => Value::Object(object.0),
        };
        assert_eq!(value, model.value);
        assert_eq!(entry.key(), model.key);
        assert_eq!((entry.kind(), entry.expiry(), entry.clock()), (model.kind, model.expiry, model.clock));
        let flags = [Flag::A, Flag::B, Flag::C, Flag::D].map(|flag| entry.flag(flag));
        assert_eq!(flags, model.flags);
    }

    /// Changes an inline, integer, blob or object value in place, in entry and model alike.
    fn change_in_place(entry: &mut Entry<Object>, model: &mut Model) {
        match (entry.payload_mut(), &mut model.value) {
            (PayloadMut::Inline(bytes), Value::Inline(wanted)) => {
                bytes.iter_mut().chain(wanted).for_each(|byte| *byte ^= 0xff);
            }
            (PayloadMut::Int(int), Value::Int(wanted)) => {
                *int = int.wrapping_add(1);
                *wanted = wanted.wrapping_add(1);
            }
            (PayloadMut::Blob(blob), Value::Blob(wanted)) => {
                blob.extend_from_slice(b"more");
                wanted.extend_from_slice(b"more");
            }
            (PayloadMut::Object(object), Value::Object(wanted)) => {
                object.0 ^= 1;
                *wanted ^= 1;
            }
            (payload, wanted) => panic!("{payload:?} instead of {wanted:?}"),
        }
    }

    /// Opens or closes a gap in an inline value.
    fn splice_in_place(entry: &mut Entry<Object>, model: &mut Model, random: &mut Random) {
        let Value::Inline(wanted) = &mut model.value else { return };
        let at = random.below(wanted.len() as u64 + 1) as usize;
        let removed = random.below((wanted.len() - at) as u64 + 1) as usize;
        let inserted = random.below((MAX_INLINE - wanted.len() + removed) as u64 + 1) as usize;
        wanted.splice(at..at + removed, std::iter::repeat_n(9, inserted));
        let bytes = entry.splice_inline(at, removed, inserted);
        bytes[at..at + inserted].fill(9);
        assert_eq!(bytes, wanted);
    }

    #[test]
    fn agrees_with_a_plain_struct() {
        let mut random = Random::from_env();
        let alive = Rc::new(());
        let key = some_key(&mut random);
        let value = some_value(&mut random);
        let mut entry = Entry::new(&key, 5, payload(&value, &alive), None);
        let mut model = Model { key, kind: 5, value, expiry: None, clock: 0, flags: [false; 4] };
        let mut mover = Mover::new(Select::Everything);
        for _ in 0..if cfg!(miri) { 300 } else { 30_000 } {
            check(&entry, &model);
            match random.below(11) {
                9 => entry.relocate(&mut mover),
                8 => splice_in_place(&mut entry, &mut model, &mut random),
                0 | 1 => {
                    (model.kind, model.value) = (random.below(16) as u8, some_value(&mut random));
                    entry.set_payload(model.kind, payload(&model.value, &alive));
                }
                2 => {
                    let old = std::mem::replace(&mut model.value, some_value(&mut random));
                    let replaced = entry.replace_payload(model.kind, payload(&model.value, &alive));
                    assert_eq!(value_of(replaced), old);
                }
                3 => {
                    model.expiry = [None, Some(random.next() as i64)][random.below(2) as usize];
                    entry.set_expiry(model.expiry);
                }
                4 => {
                    model.clock = random.next() as u32 & 0xff_ffff;
                    entry.set_clock(model.clock);
                }
                5 => {
                    let which = random.below(4) as usize;
                    model.flags[which] = !model.flags[which];
                    entry.set_flag([Flag::A, Flag::B, Flag::C, Flag::D][which], model.flags[which]);
                }
                6 => {
                    model.key = some_key(&mut random);
                    entry = entry.renamed(&model.key);
                }
                7 => change_in_place(&mut entry, &mut model),
                _ if random.below(4) == 0 => {
                    let taken = entry.take_payload();
                    assert_eq!(value_of(taken), std::mem::replace(&mut model.value, Value::Inline(vec![])));
                }
                _ => {}
            }
        }
        assert!(Rc::strong_count(&alive) <= 2);
        let parts = entry.into_parts();
        assert_eq!((parts.key, parts.kind, parts.expiry), (model.key, model.kind, model.expiry));
        assert_eq!((value_of(parts.payload), parts.clock), (model.value, model.clock));
        assert_eq!(Rc::strong_count(&alive), 1);
    }

    #[test]
    fn blocks_have_no_slack() {
        let entry = Entry::<()>::new(&[1; 16], 0, NewPayload::Inline(&[2; 16]), None);
        assert_eq!(entry.allocated_bytes(), 40);
        assert_eq!(Entry::<()>::new(&[1; 16], 0, NewPayload::Int(7), Some(1)).allocated_bytes(), 40);
        assert_eq!(size_of::<Entry<()>>(), 8);
    }

    #[test]
    #[should_panic(expected = "too long")]
    fn long_inline_values_are_refused() {
        Entry::<()>::new(b"k", 0, NewPayload::Inline(&[0; MAX_INLINE + 1]), None);
    }

    #[test]
    fn entries_move_inside_a_table() {
        let mut dict = Dict::<Entry<String>>::new();
        let hash = hash_key(b"key");
        dict.insert_new(hash, Entry::new(b"key", 0, NewPayload::Inline(b"short"), None));
        let mut entry = dict.get_mut(hash, b"key").unwrap();
        entry.set_expiry(Some(5));
        entry.set_payload(1, NewPayload::Object(Box::new("object".to_string())));
        drop(entry);
        if let PayloadMut::Object(text) = dict.get_mut(hash, b"key").unwrap().into_payload_mut() {
            text.push('!');
        }
        let entry = dict.get(hash, b"key").unwrap();
        assert_eq!((entry.expiry(), entry.into_key()), (Some(5), &b"key"[..]));
        assert!(matches!(entry.into_payload(), Payload::Object(text) if text == "object!"));
        assert!(dict.remove(hash, b"key").is_some());
    }
}
