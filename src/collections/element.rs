//! What the tables of big sets and hashes hold: a member, or a field with its value and perhaps its expiry,
//! each in one block of exact size behind an 8-byte handle. Knows bytes and times, no commands.
//! Come here for what a member or a field costs: its bytes, 0, 1 or 3 bytes for lengths, 8 for an expiry.

use super::dict::{Ref, Slot};
use super::size_class;
use crate::sys::defrag::Mover;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// Alignment of all blocks: tables keep addresses that are multiples of 8.
const ALIGN: usize = 8;
/// A length byte that says: eight bytes of length follow.
const LONG: u8 = 0xff;

fn layout_of(size: usize) -> Layout {
    Layout::from_size_align(size, ALIGN).expect("an element fits the address space")
}

fn allocate(size: usize) -> NonNull<u8> {
    let layout = layout_of(size);
    // SAFETY: every element has at least one byte of length.
    let block = unsafe { alloc(layout) };
    NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Bytes that a counted string takes.
pub(super) const fn counted_size(len: usize) -> usize {
    len + if len < LONG as usize { 1 } else { 9 }
}

/// Writes length and bytes.
///
/// # Safety
/// There is room for `counted_size` bytes at `at`.
pub(super) unsafe fn write_counted(at: NonNull<u8>, bytes: &[u8]) {
    // SAFETY: by contract.
    unsafe {
        let mut to = at.add(1);
        if bytes.len() < LONG as usize {
            at.write(bytes.len() as u8);
        } else {
            at.write(LONG);
            to.cast::<[u8; 8]>().write(bytes.len().to_ne_bytes());
            to = to.add(8);
        }
        to.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
    }
}

/// The counted string at an address.
///
/// # Safety
/// `write_counted` wrote one there, and it lives and stays the same for `'a`.
#[inline(always)]
pub(super) unsafe fn read_counted<'a>(at: NonNull<u8>) -> &'a [u8] {
    // SAFETY: by contract.
    unsafe {
        let (len, bytes) = match at.read() {
            LONG => (usize::from_ne_bytes(at.add(1).cast::<[u8; 8]>().read()), at.add(9)),
            len => (usize::from(len), at.add(1)),
        };
        std::slice::from_raw_parts(bytes.as_ptr(), len)
    }
}

/// Members of a length that fills its block keep the length outside of it, in the low bits of the handle,
/// which the alignment of blocks leaves free: a length byte would cost them eight bytes.
const FILLED_MAX: usize = 7 * ALIGN;

/// The low bits of the handle of a member of this length: the length in eights, or 0 if it stands in the
/// block.
const fn low_bits(len: usize) -> usize {
    if len.is_multiple_of(ALIGN) && len <= FILLED_MAX { len / ALIGN } else { 0 }
}

/// A member of a big set.
#[repr(transparent)]
pub struct Member {
    /// The block's address plus [`low_bits`] of the length; that is still inside the block.
    handle: NonNull<u8>,
}

// SAFETY: a member owns its block, like a box of bytes.
unsafe impl Send for Member {}
// SAFETY: a shared member is only read.
unsafe impl Sync for Member {}

// SAFETY: transparent around the pointer, of which a table looks at no bit; the bytes never change.
unsafe impl Slot for Member {
    #[inline(always)]
    fn into_ptr(self) -> NonNull<u8> {
        ManuallyDrop::new(self).handle
    }

    #[inline(always)]
    unsafe fn from_ptr(address: NonNull<u8>) -> Self {
        Member { handle: address }
    }

    #[inline(always)]
    fn key(&self) -> &[u8] {
        self.bytes()
    }
}

impl Member {
    /// A member with a copy of these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        let bits = low_bits(bytes.len());
        if bits == 0 {
            let handle = allocate(counted_size(bytes.len()));
            // SAFETY: the block was made for it.
            unsafe { write_counted(handle, bytes) }
            return Member { handle };
        }
        let block = allocate(bytes.len());
        // SAFETY: the block is as long as the bytes, which are more than the low bits can say.
        unsafe {
            block.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            Member { handle: block.add(bits) }
        }
    }

    /// The bytes.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the block lives as long as `self` and never changes.
        unsafe { self.bytes_for() }
    }

    /// The bytes for any time.
    ///
    /// # Safety
    /// The member lives and stays the same for `'a`.
    #[inline(always)]
    unsafe fn bytes_for<'a>(&self) -> &'a [u8] {
        let bits = self.handle.addr().get() % ALIGN;
        // SAFETY: `new` made a block of this kind, and the handle from it.
        unsafe {
            match bits {
                0 => read_counted(self.handle),
                bits => std::slice::from_raw_parts(self.handle.sub(bits).as_ptr(), bits * ALIGN),
            }
        }
    }

    /// Moves the block for active defragmentation. The table that keeps the handle learns of it from the
    /// loan.
    pub fn relocate(&mut self, mover: &mut Mover) {
        let bits = self.handle.addr().get() % ALIGN;
        // SAFETY: the handle is the block's address and some bits, and the only pointer to it; so is the new
        // one.
        unsafe {
            if let Some(block) = mover.moved(self.handle.sub(bits), layout_of(self.size())) {
                self.handle = block.add(bits);
            }
        }
    }

    /// Bytes the allocator spends on it.
    pub fn allocated_bytes(&self) -> usize {
        size_class(self.size())
    }

    fn size(&self) -> usize {
        let len = self.bytes().len();
        if low_bits(len) == 0 { counted_size(len) } else { len }
    }
}

impl<'a> Ref<'a, Member> {
    /// The bytes, for as long as the table is borrowed.
    #[inline(always)]
    pub fn into_bytes(self) -> &'a [u8] {
        // SAFETY: the block lives and stays as it is for `'a`.
        unsafe { self.bytes_for() }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let size = self.size();
        // SAFETY: the block was allocated with this layout, and this is the end of its only owner.
        unsafe {
            let block = self.handle.sub(self.handle.addr().get() % ALIGN);
            dealloc(block.as_ptr(), layout_of(size));
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Member({})", self.bytes().escape_ascii())
    }
}

/// A field of a big hash with its value. Layout: one byte that says whether there is an expiry, the expiry if
/// so, the counted field, the counted value.
#[repr(transparent)]
pub struct Field {
    block: NonNull<u8>,
}

const EXPIRY: usize = size_of::<i64>();

// SAFETY: a field owns its block, like a box of bytes.
unsafe impl Send for Field {}
// SAFETY: a shared field is only read.
unsafe impl Sync for Field {}

// SAFETY: transparent around the pointer; blocks are aligned to 8; the field's name never changes.
unsafe impl Slot for Field {
    #[inline(always)]
    fn into_ptr(self) -> NonNull<u8> {
        ManuallyDrop::new(self).block
    }

    #[inline(always)]
    unsafe fn from_ptr(address: NonNull<u8>) -> Self {
        Field { block: address }
    }

    #[inline(always)]
    fn key(&self) -> &[u8] {
        self.name()
    }
}

impl Field {
    /// A field with copies of name and value; `expiry` in milliseconds since 1970.
    pub fn new(name: &[u8], value: &[u8], expiry: Option<i64>) -> Self {
        let head = 1 + expiry.map_or(0, |_| EXPIRY);
        let block = allocate(head + counted_size(name.len()) + counted_size(value.len()));
        // SAFETY: the block was made for these parts in this order.
        unsafe {
            block.write(u8::from(expiry.is_some()));
            if let Some(at) = expiry {
                block.add(1).cast::<[u8; EXPIRY]>().write(at.to_ne_bytes());
            }
            write_counted(block.add(head), name);
            write_counted(block.add(head + counted_size(name.len())), value);
        }
        Field { block }
    }

    /// The name.
    #[inline(always)]
    pub fn name(&self) -> &[u8] {
        // SAFETY: the block lives as long as `self`, and names never change.
        unsafe { read_counted(self.name_at()) }
    }

    /// The value.
    #[inline(always)]
    pub fn value(&self) -> &[u8] {
        // SAFETY: the block lives as long as `self`, and values change only through `&mut self`.
        unsafe { read_counted(self.value_at()) }
    }

    /// The expiry in milliseconds since 1970, if it has one.
    #[inline(always)]
    pub fn expiry(&self) -> Option<i64> {
        // SAFETY: the first byte says whether an expiry follows.
        unsafe { self.has_expiry().then(|| i64::from_ne_bytes(self.block.add(1).cast().read())) }
    }

    /// Replaces the value; in place when it is as long as the old one.
    pub fn set_value(&mut self, value: &[u8]) {
        if value.len() == self.value().len() {
            // SAFETY: the block has room for a value of this length, and it is ours alone.
            unsafe { write_counted(self.value_at(), value) }
        } else {
            *self = Field::new(self.name(), value, self.expiry());
        }
    }

    /// Sets or removes the expiry.
    pub fn set_expiry(&mut self, expiry: Option<i64>) {
        match expiry {
            // SAFETY: the block has an expiry, and it is ours alone.
            Some(at) if self.has_expiry() => unsafe {
                self.block.add(1).cast::<[u8; EXPIRY]>().write(at.to_ne_bytes());
            },
            None if !self.has_expiry() => {}
            _ => *self = Field::new(self.name(), self.value(), expiry),
        }
    }

    /// Moves the block for active defragmentation. The table that keeps the handle learns of it from the
    /// loan; deadlines are kept by hash.
    pub fn relocate(&mut self, mover: &mut Mover) {
        // SAFETY: the block has this layout, and this handle is the only pointer to it.
        if let Some(block) = unsafe { mover.moved(self.block, layout_of(self.size())) } {
            self.block = block;
        }
    }

    /// Bytes the allocator spends on it.
    pub fn allocated_bytes(&self) -> usize {
        size_class(self.size())
    }

    #[inline(always)]
    fn has_expiry(&self) -> bool {
        // SAFETY: a block begins with this byte.
        unsafe { self.block.read() != 0 }
    }

    #[inline(always)]
    fn name_at(&self) -> NonNull<u8> {
        // SAFETY: the name lies behind the first byte and the expiry, if there is one.
        unsafe { self.block.add(1 + if self.has_expiry() { EXPIRY } else { 0 }) }
    }

    #[inline(always)]
    fn value_at(&self) -> NonNull<u8> {
        // SAFETY: the value lies behind the name.
        unsafe { self.name_at().add(counted_size(self.name().len())) }
    }

    fn size(&self) -> usize {
        let head = 1 + if self.has_expiry() { EXPIRY } else { 0 };
        head + counted_size(self.name().len()) + counted_size(self.value().len())
    }
}

impl<'a> Ref<'a, Field> {
    /// Name and value, for as long as the table is borrowed.
    #[inline(always)]
    pub fn into_pair(self) -> (&'a [u8], &'a [u8]) {
        // SAFETY: the block lives and stays as it is for `'a`.
        unsafe { (read_counted(self.name_at()), read_counted(self.value_at())) }
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        // SAFETY: the block was allocated with this layout, and this is the end of its only owner.
        unsafe { dealloc(self.block.as_ptr(), layout_of(self.size())) }
    }
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Field({}={})", self.name().escape_ascii(), self.value().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collections::dict::Dict;
    use crate::collections::hash::hash_key;
    use crate::collections::testing::Random;
    use crate::sys::defrag::Select;

    fn some_bytes(random: &mut Random) -> Vec<u8> {
        let longest = [10, 253, 254, 255, 256, 70_000][random.below(6) as usize];
        vec![random.next() as u8; [longest, random.below(longest + 1)][random.below(2) as usize] as usize]
    }

    #[test]
    fn fields_agree_with_plain_values() {
        let (mut random, mut mover) = (Random::from_env(), Mover::new(Select::Everything));
        for _ in 0..if cfg!(miri) { 20 } else { 500 } {
            let (name, mut value, mut expiry) = (some_bytes(&mut random), some_bytes(&mut random), None);
            let mut field = Field::new(&name, &value, expiry);
            for _ in 0..10 {
                if random.below(2) == 0 {
                    value = some_bytes(&mut random);
                    field.set_value(&value);
                } else {
                    expiry = [None, Some(random.next() as i64)][random.below(2) as usize];
                    field.set_expiry(expiry);
                }
                assert_eq!((field.name(), field.value(), field.expiry()), (&name[..], &value[..], expiry));
                field.relocate(&mut mover);
                assert_eq!((field.name(), field.value(), field.expiry()), (&name[..], &value[..], expiry));
            }
            assert_eq!(Member::new(&name).bytes(), name);
        }
        for len in 0..=80 {
            let bytes: Vec<u8> = (0..len).collect();
            let mut member = Member::new(&bytes);
            assert_eq!(member.bytes(), bytes);
            member.relocate(&mut mover);
            assert_eq!(member.bytes(), bytes);
        }
    }

    #[test]
    fn members_of_all_lengths_live_in_a_table() {
        let mut members = Dict::<Member>::new();
        let bytes = |i: usize| vec![i as u8; i];
        for i in 0..200 {
            members.insert_new(hash_key(&bytes(i)), Member::new(&bytes(i)));
        }
        for i in 0..200 {
            assert_eq!(members.get(hash_key(&bytes(i)), &bytes(i)).unwrap().into_bytes(), bytes(i));
            if i % 2 == 0 {
                assert_eq!(members.remove(hash_key(&bytes(i)), &bytes(i)).unwrap().bytes(), bytes(i));
            }
        }
        assert_eq!(members.iter().map(|member| member.bytes().len()).sum::<usize>(), 10_000);
    }

    #[test]
    fn sizes_are_as_promised() {
        assert_eq!(Member::new(&[1; 16]).allocated_bytes(), 16);
        assert_eq!(Member::new(&[1; 17]).allocated_bytes(), 24);
        assert_eq!(Member::new(&[1; 23]).allocated_bytes(), 24);
        assert_eq!(Field::new(&[1; 16], &[2; 13], None).allocated_bytes(), 32);
        assert_eq!(Field::new(&[1; 16], &[2; 16], Some(5)).allocated_bytes(), 48);
    }

    #[test]
    fn elements_move_inside_a_table() {
        let mut fields = Dict::<Field>::new();
        for i in 0..1000u32 {
            let name = format!("field:{i}");
            fields.insert_new(hash_key(name.as_bytes()), Field::new(name.as_bytes(), b"v", None));
        }
        fields.get_mut(hash_key(b"field:7"), b"field:7").unwrap().set_value(b"longer");
        let field = fields.get(hash_key(b"field:7"), b"field:7").unwrap();
        assert_eq!(field.into_pair(), (&b"field:7"[..], &b"longer"[..]));
    }
}
