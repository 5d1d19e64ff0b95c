//! A small fast random generator (xoshiro256++ by Blackman and Vigna, seeded by splitmix64). For sampling
//! and identifiers; not for secrets. The same seed gives the same run, which tests and simulations need:
//! whoever wants real randomness seeds it from `sys::process::os_random`.

/// xoshiro256++ state.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// A generator whose whole future follows from `seed`.
    pub fn from_seed(seed: u64) -> Rng {
        let mut mix = seed;
        let state = std::array::from_fn(|_| {
            mix = mix.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = mix;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ (word >> 31)
        });
        Rng { state }
    }

    /// 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in `0..bound`, without bias (Lemire's method); 0 when `bound` is 0.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        let mut product = u128::from(self.next_u64()) * u128::from(bound);
        if (product as u64) < bound {
            let reject_under = bound.wrapping_neg() % bound;
            while (product as u64) < reject_under {
                product = u128::from(self.next_u64()) * u128::from(bound);
            }
        }
        (product >> 64) as u64
    }

    /// A double in `0.0..1.0` with 53 random bits.
    #[inline]
    pub fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Fills a buffer with random bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// `length` random lower-case hex digits: run ids and replication ids have 40.
pub fn random_hex(rng: &mut Rng, length: usize) -> String {
    (0..length).map(|_| char::from(b"0123456789abcdef"[rng.below(16) as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sequence() {
        // Reference values of splitmix64(0) followed by xoshiro256++.
        let mut rng = Rng::from_seed(0);
        assert_eq!(rng.next_u64(), 5_987_356_902_031_041_503);
        let mut again = Rng::from_seed(0);
        again.next_u64();
        assert_eq!(rng.next_u64(), again.next_u64());
    }

    #[test]
    fn below_is_even_and_in_range() {
        let mut rng = Rng::from_seed(1);
        let mut counts = [0u32; 6];
        for _ in 0..60_000 {
            counts[rng.below(6) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_000..11_000).contains(count)), "{counts:?}");
        assert_eq!(rng.below(1), 0);
        assert_eq!(rng.below(0), 0);
        assert!((0.0..1.0).contains(&rng.next_f64()));
    }

    #[test]
    fn fill_and_hex() {
        let mut rng = Rng::from_seed(2);
        let mut bytes = [0u8; 13];
        rng.fill(&mut bytes);
        assert!(bytes.iter().any(|byte| *byte != 0));
        let hex = random_hex(&mut rng, 40);
        assert!(hex.len() == 40 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
