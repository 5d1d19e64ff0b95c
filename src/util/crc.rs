//! Checksums and digests: CRC-64 of RDB files and DUMP payloads, CRC-16 of cluster slots, SHA-1 and
//! SHA-256 in hex for scripts and passwords.

use crc_fast::{CrcAlgorithm, Digest};
use sha1::Digest as _;

/// Number of slots of a Redis Cluster.
pub const SLOTS: u16 = 16384;

/// CRC-64/REDIS (Jones' polynomial, reflected, no final xor) of a whole buffer.
pub fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(CrcAlgorithm::Crc64Redis, bytes)
}

/// The checksum of two buffers one after the other, from that of each and the length of the second.
pub fn crc64_joined(first: u64, second: u64, second_len: u64) -> u64 {
    crc_fast::checksum_combine(CrcAlgorithm::Crc64Redis, first, second, second_len)
}

/// CRC-64/REDIS of a stream of buffers. Cheap to create; starts at 0.
#[derive(Clone, Debug)]
pub struct Crc64(Digest);

impl Crc64 {
    /// The checksum of nothing.
    pub fn new() -> Crc64 {
        Crc64(Digest::new(CrcAlgorithm::Crc64Redis))
    }

    /// Continues from the checksum of what came before.
    pub fn resume(checksum: u64) -> Crc64 {
        Crc64(Digest::new_with_init_state(CrcAlgorithm::Crc64Redis, checksum))
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes so far; more may follow.
    pub fn value(&self) -> u64 {
        self.0.finalize()
    }
}

impl Default for Crc64 {
    fn default() -> Crc64 {
        Crc64::new()
    }
}

/// The cluster slot of a key: CRC-16/XMODEM mod 16384, over the text between the first `{` and the first
/// `}` behind it when that is not empty (the hash tag of the Redis Cluster specification).
pub fn key_slot(key: &[u8]) -> u16 {
    crc16::State::<crc16::XMODEM>::calculate(hash_tag(key)) % SLOTS
}

/// The part of a key that decides its slot.
fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else {
        return key;
    };
    match key[open + 1..].iter().position(|byte| *byte == b'}') {
        Some(length) if length > 0 => &key[open + 1..open + 1 + length],
        _ => key,
    }
}

/// SHA-1.
pub fn sha1(bytes: &[u8]) -> [u8; 20] {
    sha1::Sha1::digest(bytes).into()
}

/// SHA-1 in 40 lower-case hex digits.
pub fn sha1_hex(bytes: &[u8]) -> String {
    hex(&sha1(bytes))
}

/// SHA-256 in 64 lower-case hex digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&sha2::Sha256::digest(bytes))
}

/// Lower-case hex digits of bytes.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let pair = |byte: &u8| [byte >> 4, byte & 15].map(|nibble| char::from(DIGITS[usize::from(nibble)]));
    bytes.iter().flat_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc64_known_value_and_streams() {
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(crc64(b""), 0);
        let data: Vec<u8> = (0..5_000u32).map(|i| ((i * 31) >> 3) as u8).collect();
        for cut in [0, 1, 7, 16, 255, 256, 1_023, 4_999] {
            let mut stream = Crc64::new();
            stream.update(&data[..cut]);
            let mut resumed = Crc64::resume(stream.value());
            stream.update(&data[cut..]);
            resumed.update(&data[cut..]);
            let joined = crc64_joined(crc64(&data[..cut]), crc64(&data[cut..]), (data.len() - cut) as u64);
            assert_eq!(joined, crc64(&data));
            assert_eq!((stream.value(), resumed.value()), (crc64(&data), crc64(&data)), "cut {cut}");
        }
    }

    #[test]
    fn slots() {
        for (key, slot) in [("foo", 12182), ("bar", 5061), ("", 0), ("123456789", 12739)] {
            assert_eq!(key_slot(key.as_bytes()), slot);
        }
        assert_eq!(key_slot(b"{user1000}.following"), key_slot(b"user1000"));
        assert_eq!(hash_tag(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(hash_tag(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(hash_tag(b"foo{bar}{zap}"), b"bar");
        assert_eq!(hash_tag(b"foo{bar"), b"foo{bar");
    }

    #[test]
    fn digests() {
        assert_eq!(sha1_hex(b"return 1"), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256_hex(b""), empty);
    }
}
