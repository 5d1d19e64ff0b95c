//! A node of a long list: a listpack, or one element too big to share one (plain), perhaps compressed; and
//! the limits that say how big nodes become. Knows nothing of the nodes beside it.
//!
//! The block of a listpack may be bigger than the listpack and have room on either side of it, so that pushes
//! and pops at both ends move a few bytes only. A block is never bigger than the allocator's size class.

use super::super::buffer::Buffer;
use super::super::listpack::{self, Value};
use super::super::relocate::relocate_slice;
use super::super::size_class;
use crate::sys::defrag::Mover;
use crate::util::lzf;

/// Size limits of listpacks for the negative values of `fill`, in bytes.
const SIZE_CLASSES: [usize; 5] = [4096, 8192, 16384, 32768, 65536];
/// Where the number of elements is limited, listpacks are at most this big, in bytes.
const SIZE_MAX: usize = 8192;
/// What an element may cost beyond its bytes, as estimated before it is added.
const ELEMENT_OVERHEAD: usize = 8;
/// Smaller nodes are not compressed, and compressing has to save a little.
const COMPRESS_MIN: usize = 48;
const COMPRESS_GAIN_MIN: usize = 8;
/// Compressed data begins with the length of what was compressed.
const RAW_LEN: usize = size_of::<u32>();

/// How big the nodes of a list become and which of them are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Over 0: elements of a node. Under 0: its size, -1 to -5 for 4 KiB to 64 KiB.
    pub fill: i32,
    /// Nodes at each end that are not compressed; 0: none is compressed.
    pub compress_depth: u32,
    /// Elements from this length on are kept plain; 0: those that exceed a node alone.
    pub plain_from: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { fill: -2, compress_depth: 0, plain_from: 0 }
    }
}

impl Limits {
    /// The limits as sizes: bytes and elements of one node.
    pub fn sizes(&self) -> (usize, usize) {
        match usize::try_from(self.fill) {
            Ok(count) => (usize::MAX, count.max(1)),
            Err(_) => {
                let class = (self.fill.unsigned_abs() as usize - 1).min(SIZE_CLASSES.len() - 1);
                (SIZE_CLASSES[class], usize::MAX)
            }
        }
    }

    /// Whether a listpack of this size is too big for one node.
    pub fn exceeded(&self, bytes: usize, count: usize) -> bool {
        match self.sizes() {
            (usize::MAX, most) => bytes > SIZE_MAX || count > most,
            (most, _) => bytes > most,
        }
    }

    /// Whether an element gets a node of its own.
    pub fn is_large(&self, len: usize) -> bool {
        match (self.plain_from, self.sizes()) {
            (0, (usize::MAX, _)) => len > SIZE_MAX,
            (0, (most, _)) => len > most,
            (from, _) => len >= from,
        }
    }
}

/// What the data of a node are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Listpack,
    Plain,
}

/// One node.
#[derive(Clone, Debug)]
pub struct Node {
    /// The element, the compressed data, or the block in which the listpack lies.
    data: Box<[u8]>,
    pub(super) count: u32,
    /// Where in the block the listpack begins. It ends where its own head says.
    start: u16,
    form: Form,
    compressed: bool,
}

impl Node {
    /// A node of a listpack that is not empty.
    pub(super) fn packed(listpack: Box<[u8]>) -> Node {
        let count = listpack::len(&listpack) as u32;
        Node { count, ..Node::with(listpack, Form::Listpack) }
    }

    fn with(data: Box<[u8]>, form: Form) -> Node {
        Node { data, count: 1, start: 0, form, compressed: false }
    }

    /// A node for one element.
    pub(super) fn of(element: &[u8], limits: &Limits) -> Node {
        if limits.is_large(element.len()) {
            Node::plain(element)
        } else {
            Node::packed(listpack::from_values([Value::new(element)]).into_boxed_slice())
        }
    }

    /// A node of one big element.
    pub(super) fn plain(element: &[u8]) -> Node {
        Node::with(element.into(), Form::Plain)
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none; never in a list.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether the data are one element, not a listpack.
    pub fn is_plain(&self) -> bool {
        self.form == Form::Plain
    }

    /// The LZF data and the length of what they stand for, if the node is compressed.
    pub fn lzf(&self) -> Option<(&[u8], usize)> {
        let (len, data) = self.data.split_first_chunk::<RAW_LEN>().filter(|_| self.compressed)?;
        Some((data, u32::from_le_bytes(*len) as usize))
    }

    /// The listpack or element; a compressed one is unpacked into `scratch`.
    #[inline]
    pub fn contents<'a>(&'a self, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        match self.lzf() {
            None => self.unpacked(),
            Some((data, len)) => {
                lzf::decompress_into(data, len, scratch).expect("what was compressed can be unpacked");
                scratch
            }
        }
    }

    /// The node as a listpack, to be changed; it stays unpacked.
    #[inline]
    pub(super) fn listpack(&mut self) -> &mut Node {
        assert!(self.form == Form::Listpack, "the node is a listpack");
        self.unpack();
        self
    }

    /// The listpack or element of a node that is not compressed.
    #[inline]
    fn unpacked(&self) -> &[u8] {
        debug_assert!(!self.compressed);
        match self.form {
            Form::Plain => &self.data,
            Form::Listpack => {
                let listpack = &self.data[usize::from(self.start)..];
                &listpack[..listpack::total_bytes(listpack)]
            }
        }
    }

    /// Undoes compression.
    pub(super) fn unpack(&mut self) {
        if self.compressed {
            let mut raw = Vec::new();
            self.contents(&mut raw);
            self.data = raw.into_boxed_slice();
            self.start = 0;
            self.compressed = false;
        }
    }

    /// Compresses the node if that is worth it.
    pub(super) fn pack(&mut self) {
        if self.compressed {
            return;
        }
        let raw = self.unpacked();
        let Some(len) = u32::try_from(raw.len()).ok().filter(|_| raw.len() >= COMPRESS_MIN) else { return };
        if let Some(small) = lzf::compress(raw, raw.len() - COMPRESS_GAIN_MIN - RAW_LEN) {
            self.data = [&len.to_le_bytes()[..], &small].concat().into_boxed_slice();
            self.compressed = true;
        }
    }

    /// Whether the element fits into this node's listpack.
    pub(super) fn has_room(&self, element: usize, limits: &Limits) -> bool {
        self.form == Form::Listpack
            && !limits.is_large(element)
            && !limits.exceeded(self.raw_len() + element + ELEMENT_OVERHEAD, self.len() + 1)
    }

    /// Whether another node's listpack fits in behind this one's.
    pub(super) fn can_merge(&self, other: &Node, limits: &Limits) -> bool {
        self.form == Form::Listpack
            && other.form == Form::Listpack
            && !limits
                .exceeded(self.raw_len() + other.raw_len() - listpack::EMPTY.len(), self.len() + other.len())
    }

    /// Bytes before compression.
    pub(super) fn raw_len(&self) -> usize {
        self.lzf().map_or_else(|| self.unpacked().len(), |(_, len)| len)
    }

    /// Moves the block for active defragmentation.
    pub(super) fn relocate_data(&mut self, mover: &mut Mover) {
        relocate_slice(&mut self.data, mover);
    }

    /// Bytes the allocator spends on the data.
    pub(super) fn allocated_bytes(&self) -> usize {
        size_class(self.data.len())
    }
}

const _: () = assert!(size_of::<Node>() == 24);

/// A node that is a listpack and not compressed.
impl Buffer for Node {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.unpacked()
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        let listpack = &mut self.data[usize::from(self.start)..];
        let len = listpack::total_bytes(listpack);
        &mut listpack[..len]
    }

    #[inline]
    fn splice(&mut self, at: usize, removed: usize, inserted: usize) -> &mut [u8] {
        let (start, old, tail) = (usize::from(self.start), self.unpacked().len(), at + removed);
        let new = old + inserted - removed;
        let too_big = self.data.len() > SPARE_MIN && new < self.data.len() / 4 * 3;
        // The shorter side moves.
        let moved = (start + removed).checked_sub(inserted).and_then(|start| u16::try_from(start).ok());
        let from = match moved.filter(|_| at < old - tail && !too_big) {
            Some(moved) => {
                self.data.copy_within(start..start + at, usize::from(moved));
                self.start = moved;
                usize::from(moved)
            }
            None if at >= old - tail && start + new <= self.data.len() && !too_big => {
                self.data.copy_within(start + tail..start + old, start + at + inserted);
                start
            }
            None => self.relocate(at, removed, inserted, old),
        };
        &mut self.data[from..from + new]
    }
}

/// Blocks up to this size, in bytes, are kept however little is in them: a list that is filled and emptied in
/// turn is not to ask the allocator each time.
const SPARE_MIN: usize = 512;

impl Node {
    /// Lays the listpack out anew with a gap in it and gives its place in the block: what room the size class
    /// leaves is on the side at which the change is.
    fn relocate(&mut self, at: usize, removed: usize, inserted: usize, old: usize) -> usize {
        let new = old + inserted - removed;
        let mut block = vec![0; size_class(new)].into_boxed_slice();
        let front = at < old - (at + removed);
        let start = if front { (block.len() - new).min(usize::from(u16::MAX)) } else { 0 };
        let bytes = self.unpacked();
        block[start..start + at].copy_from_slice(&bytes[..at]);
        block[start + at + inserted..start + new].copy_from_slice(&bytes[at + removed..]);
        self.data = block;
        self.start = u16::try_from(start).expect("limited above");
        start
    }
}
