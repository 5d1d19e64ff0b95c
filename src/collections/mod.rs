//! Data structures of the server: the hash table, the keyspace entry, the shared byte buffer, the timing
//! wheel, and what collections are made of. They know bytes, hashes and times; they know no commands, no
//! clock and no socket. Come here for memory layout and for the cost of an operation: speed and bytes a key
//! are decided here.
//!
//! Reading order: `hash`, `dict`, `entry`, `blob`, `wheel`; then the packed encodings `buffer`, `listpack`,
//! `intset`; the big ones `element` (of sets and hashes), `sorted`, `quicklist`.

// The one floor (beside `sys`) where unsafe code is allowed; every block says why it is sound.
#![allow(unsafe_code)]

pub mod blob;
pub mod buffer;
pub mod dict;
pub mod element;
pub mod entry;
pub mod hash;
pub mod intset;
pub mod listpack;
pub mod quicklist;
pub mod relocate;
pub mod sorted;
pub mod wheel;

/// The size of the block an allocation of `bytes` really takes: the size classes of jemalloc with a quantum
/// of 8 bytes, four classes to every doubling. Zero bytes take no block.
pub const fn size_class(bytes: usize) -> usize {
    if bytes <= 64 {
        return bytes.next_multiple_of(8);
    }
    let step = bytes.next_power_of_two() / 8;
    bytes.next_multiple_of(step)
}

/// Asks the processor to bring the cache line of `address` close. Any address is allowed: it is a hint.
#[inline(always)]
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch never faults and changes no state a program can see, whatever the address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}

/// Helpers of the tests of this floor.
#[cfg(test)]
pub(crate) mod testing {
    /// A small seeded generator (splitmix64), so that a failing run can be repeated.
    pub struct Random(u64);

    impl Random {
        /// A generator whose seed is `AIKV_TEST_SEED` or new; the seed is printed.
        pub fn from_env() -> Self {
            let fresh = || if cfg!(miri) { 1 } else { crate::sys::process::os_random_u64() };
            let seed =
                std::env::var("AIKV_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(fresh);
            println!("AIKV_TEST_SEED={seed}");
            Random(seed)
        }

        /// A generator with a fixed seed.
        pub fn new(seed: u64) -> Self {
            Random(seed)
        }

        /// The next 64 bits.
        pub fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut x = self.0;
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ (x >> 31)
        }

        /// A number below `bound`.
        pub fn below(&mut self, bound: u64) -> u64 {
            self.next() % bound
        }
    }
}

#[cfg(test)]
mod tests {
    use super::size_class;

    #[test]
    fn size_classes_are_those_of_jemalloc() {
        let classes = [
            (0, 0),
            (1, 8),
            (40, 40),
            (57, 64),
            (65, 80),
            (113, 128),
            (129, 160),
            (257, 320),
            (2049, 2560),
            (4096, 4096),
            (14336, 14336),
            (16385, 20480),
            (1 << 20, 1 << 20),
        ];
        for (bytes, class) in classes {
            assert_eq!(size_class(bytes), class, "{bytes}");
        }
    }
}
