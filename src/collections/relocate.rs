//! Moving the blocks of containers of the standard library, for active defragmentation: boxes, vectors and
//! deques have one block, which is moved; the nodes of trees are out of reach, so small trees are built anew.
//! Knows nothing of what is in them. The structures of this floor move their own blocks, each in a method
//! `relocate` or, where it may take long, `relocate_some` with a cursor.
//!
//! All of it is safe: whoever calls owns the container exclusively, so nobody holds a pointer into it.

use crate::sys::defrag::Mover;
use std::alloc::Layout;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem::{ManuallyDrop, take};
use std::ptr::NonNull;

/// Trees with more elements than this are left as they are: building them anew would take too long.
const REBUILD_MAX: usize = 16_384;
/// Elements of a tree whose places are looked at, each in another node; from the first on, since walking the
/// whole tree would take longer than building it.
const REBUILD_SAMPLES: usize = 8;
/// Elements that a node of a tree of the standard library has at most.
const NODE_ELEMENTS: usize = 11;

/// Moves the block of a box.
pub fn relocate_box<T>(owner: &mut Box<T>, mover: &mut Mover) {
    if size_of::<T>() == 0 {
        return;
    }
    let old = NonNull::from(&mut **owner).cast();
    // SAFETY: a box owns its block, which has the layout of its type. The old pointer is overwritten without
    // a look at what it names.
    unsafe {
        if let Some(new) = mover.moved(old, Layout::new::<T>()) {
            std::ptr::from_mut(owner).write(Box::from_raw(new.cast().as_ptr()));
        }
    }
}

/// Moves the block of a boxed slice.
pub fn relocate_slice<T>(owner: &mut Box<[T]>, mover: &mut Mover) {
    let (len, layout) = (owner.len(), Layout::for_value(&**owner));
    if layout.size() == 0 {
        return;
    }
    let old = NonNull::from(&mut **owner).cast();
    // SAFETY: as in `relocate_box`.
    unsafe {
        if let Some(new) = mover.moved(old, layout) {
            let slice = std::ptr::slice_from_raw_parts_mut(new.cast().as_ptr(), len);
            std::ptr::from_mut(owner).write(Box::from_raw(slice));
        }
    }
}

/// Moves the block of a vector.
pub fn relocate_vec<T>(owner: &mut Vec<T>, mover: &mut Mover) {
    if owner.capacity() == 0 || size_of::<T>() == 0 {
        return;
    }
    let layout = Layout::array::<T>(owner.capacity()).expect("a vector fits the address space");
    let mut vec = ManuallyDrop::new(take(owner));
    let (old, len, capacity) = (NonNull::from(vec.as_mut_slice()).cast(), vec.len(), vec.capacity());
    // SAFETY: the vector was taken apart, so its block, of this layout, has no other owner; the new vector
    // has its length and capacity.
    unsafe {
        let block = mover.moved(old, layout).unwrap_or(old);
        *owner = Vec::from_raw_parts(block.cast().as_ptr(), len, capacity);
    }
}

/// Moves the block of a deque. Its elements are put in one run for that: for deques of a few hundred.
pub fn relocate_deque<T>(owner: &mut VecDeque<T>, mover: &mut Mover) {
    // The block is asked about before anything is done: an element points into it.
    if owner.front().is_some_and(|element| mover.wants(std::ptr::from_ref(element).cast())) {
        let mut vec = Vec::from(take(owner));
        relocate_vec(&mut vec, mover);
        *owner = VecDeque::from(vec);
    }
}

/// Builds a tree anew if it is small and about half of its nodes had better lie elsewhere. The mover's slice
/// sees to it that the new nodes do.
pub fn rebuild_set<K: Ord>(owner: &mut BTreeSet<K>, mover: &mut Mover) {
    if wants_rebuild(owner.len(), owner.iter().map(std::ptr::from_ref), mover) {
        *owner = take(owner).into_iter().collect();
        mover.note_rebuilt();
    }
}

/// The same for a map.
pub fn rebuild_map<K: Ord, V>(owner: &mut BTreeMap<K, V>, mover: &mut Mover) {
    if wants_rebuild(owner.len(), owner.keys().map(std::ptr::from_ref), mover) {
        *owner = take(owner).into_iter().collect();
        mover.note_rebuilt();
    }
}

fn wants_rebuild<T>(len: usize, elements: impl Iterator<Item = *const T>, mover: &mut Mover) -> bool {
    if len == 0 || len > REBUILD_MAX {
        return false;
    }
    let samples = elements.step_by(NODE_ELEMENTS).take(REBUILD_SAMPLES);
    let (mut wanted, mut seen) = (0, 0);
    for element in samples {
        wanted += usize::from(mover.wants(element.cast()));
        seen += 1;
    }
    2 * wanted >= seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::defrag::Select;

    #[test]
    fn containers_keep_their_elements() {
        let mut mover = Mover::new(Select::Everything);
        let text = |i: usize| format!("element {i}");
        for len in [0, 1, 5, 100] {
            let model: Vec<String> = (0..len).map(text).collect();
            let mut boxed = Box::new(model.clone());
            let mut slice = model.clone().into_boxed_slice();
            let mut vec = Vec::with_capacity(len * 2);
            vec.extend(model.iter().cloned());
            let mut deque: VecDeque<String> = model.iter().skip(len / 2).cloned().collect();
            model.iter().take(len / 2).rev().for_each(|text| deque.push_front(text.clone()));
            let mut set: BTreeSet<usize> = (0..len).collect();
            let mut map: BTreeMap<usize, String> = (0..len).map(|i| (i, text(i))).collect();
            relocate_box(&mut boxed, &mut mover);
            relocate_slice(&mut slice, &mut mover);
            relocate_vec(&mut vec, &mut mover);
            relocate_deque(&mut deque, &mut mover);
            rebuild_set(&mut set, &mut mover);
            rebuild_map(&mut map, &mut mover);
            assert_eq!((&*boxed, &*slice, &vec), (&model, &model[..], &model));
            assert!(deque.iter().eq(&model) && set.iter().copied().eq(0..len) && map.values().eq(&model));
            vec.push("one more".to_owned());
            deque.push_front("one more".to_owned());
        }
        relocate_box(&mut Box::new(()), &mut mover);
        assert_eq!(mover.hits, 1 + 3 * 6);
    }
}
