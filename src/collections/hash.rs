//! The hash of a key: 64 bits, the same for the life of the process, unpredictable from outside.
//! It knows bytes only. Everything that looks a key up, shards by key or remembers a key by its hash uses
//! this one function, so a hash is computed once a request and handed down.

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

struct Seeds {
    own: u64,
    shared: SharedSeed,
}

static SEEDS: OnceLock<Seeds> = OnceLock::new();

/// Fixes the seed of all hashes of this process, for simulations that run from a seed. The first call wins,
/// and so does a `hash_key` that came before: then the call changes nothing.
pub fn seed_hashes(seed: u64) {
    SEEDS.get_or_init(|| seeds_from(seed));
}

/// The hash of `key`. All 64 bits are good: the table takes the top ones as an address and the lowest
/// eight as a tag.
#[inline]
pub fn hash_key(key: &[u8]) -> u64 {
    let seeds = SEEDS.get_or_init(random_seeds);
    let mut hasher = FoldHasher::with_seed(seeds.own, &seeds.shared);
    hasher.write(key);
    hasher.finish()
}

fn seeds_from(seed: u64) -> Seeds {
    // Two different streams from one seed: the constant only has to differ from zero.
    Seeds { own: seed ^ 0x5851_f42d_4c95_7f2d, shared: SharedSeed::from_u64(seed) }
}

#[cold]
fn random_seeds() -> Seeds {
    // The standard library seeds this from the operating system.
    seeds_from(RandomState::new().hash_one(0u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_seed_wins_and_bits_are_spread() {
        let first = hash_key(b"key:1");
        seed_hashes(7);
        assert_eq!(first, hash_key(b"key:1"));
        // Every bit is set in about half of the hashes of very regular keys.
        let mut ones = [0u32; 64];
        let keys = if cfg!(miri) { 256 } else { 4096 };
        for i in 0..keys {
            let hash = hash_key(format!("key:{i:012}").as_bytes());
            (0..64).for_each(|bit| ones[bit] += (hash >> bit & 1) as u32);
        }
        for (bit, &count) in ones.iter().enumerate() {
            assert!(count.abs_diff(keys / 2) < keys / 5, "bit {bit}: {count} of {keys}");
        }
    }
}
