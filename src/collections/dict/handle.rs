//! What a table stores (`Slot`) and how callers see it (`Ref`, `Mut`). Knows nothing of buckets: a handle is
//! an address and, for `Mut`, the word it came from.

use super::segment::{slot_address, slot_window, slot_word};
use crate::collections::hash::hash_key;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// An owning handle of the size of a pointer, such as a boxed element, that a table can keep in 48 bits.
///
/// # Safety
/// - The type has the layout of `NonNull<u8>` (`repr(transparent)` around it, or around a `Box`), and
///   `into_ptr` and `from_ptr` change no bit of it. `Ref` and `Mut` lend out `&Self` made from the address.
/// - The address is below 2^48, as all addresses of user space here are.
/// - `key` gives the same bytes as long as the element is in a table, and so does `hash`.
pub unsafe trait Slot: Sized {
    /// Gives up ownership of the element.
    fn into_ptr(self) -> NonNull<u8>;

    /// Takes ownership back.
    ///
    /// # Safety
    /// `address` came from `into_ptr`, and this is its only use as an owner.
    unsafe fn from_ptr(address: NonNull<u8>) -> Self;

    /// The bytes the element is looked up by.
    fn key(&self) -> &[u8];

    /// The hash of the key. Only tests that want collisions have a reason to replace it.
    #[inline(always)]
    fn hash(&self) -> u64 {
        hash_key(self.key())
    }
}

/// Lends the element at the address inside `address`.
///
/// # Safety
/// `address` holds the address of a live element of type `E` that nothing changes meanwhile.
#[inline(always)]
pub(super) unsafe fn lend<E: Slot>(address: &NonNull<u8>) -> &E {
    const { assert!(size_of::<E>() == size_of::<NonNull<u8>>()) };
    // SAFETY: by the contract of `Slot` an `E` is bit for bit the address it was made from.
    unsafe { NonNull::from(address).cast::<E>().as_ref() }
}

/// A shared loan of an element in a table. Copies freely; `Deref` gives the element.
pub struct Ref<'a, E: Slot> {
    address: NonNull<u8>,
    table: PhantomData<&'a E>,
}

impl<E: Slot> Ref<'_, E> {
    /// # Safety
    /// `word` is an occupied slot word of a table of `E`, and the table is borrowed for `'a`.
    #[inline(always)]
    pub(super) unsafe fn new(word: u64) -> Self {
        Ref { address: slot_address(word), table: PhantomData }
    }
}

impl<E: Slot> Clone for Ref<'_, E> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: Slot> Copy for Ref<'_, E> {}

impl<E: Slot> Deref for Ref<'_, E> {
    type Target = E;

    #[inline(always)]
    fn deref(&self) -> &E {
        // SAFETY: the element is alive and unchanged as long as the table is borrowed.
        unsafe { lend(&self.address) }
    }
}

/// An exclusive loan of an element in a table. The element may move itself to another block while it is on
/// loan; the table learns the new address when the loan ends. The key must stay the same. Never pass a `Mut`
/// to `mem::forget`: the table would keep the old address.
pub struct Mut<'a, E: Slot> {
    address: NonNull<u8>,
    word: NonNull<u64>,
    table: PhantomData<&'a mut E>,
}

impl<E: Slot> Mut<'_, E> {
    /// # Safety
    /// `word` is the place of an occupied slot word of a table of `E` that is borrowed exclusively for `'a`.
    #[inline(always)]
    pub(super) unsafe fn new(word: NonNull<u64>) -> Self {
        // SAFETY: by contract the place is alive and initialised.
        let address = slot_address(unsafe { word.read() });
        Mut { address, word, table: PhantomData }
    }
}

impl<E: Slot> Deref for Mut<'_, E> {
    type Target = E;

    #[inline(always)]
    fn deref(&self) -> &E {
        // SAFETY: the element is alive and this loan is the only one.
        unsafe { lend(&self.address) }
    }
}

impl<E: Slot> DerefMut for Mut<'_, E> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut E {
        // SAFETY: the element is alive and this loan is the only one; by the contract of `Slot` an `E` is
        // bit for bit its address, so a change of the element's address is a change of `self.address`.
        unsafe { NonNull::from(&mut self.address).cast::<E>().as_mut() }
    }
}

impl<E: Slot> Drop for Mut<'_, E> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the table is borrowed exclusively by this loan, so the place is alive and ours.
        let old = unsafe { self.word.read() };
        if slot_address(old) != self.address {
            let new = slot_word(self.address, slot_window(old));
            // SAFETY: as above.
            unsafe { self.word.write(new) }
        }
    }
}

/// What `Dict::get_live` found.
pub enum Lookup<'a, E: Slot> {
    /// No element has this key.
    Missing,
    /// The element.
    Live(Mut<'a, E>),
    /// The element was dead; it is out of the table.
    Dead(E),
}
