//! Pure helpers: bits, numbers, text, globs, quoting, checksums, random numbers. No state, no system calls
//! (the one exception is `num::LongDouble`, which lives in `sys` because it is C), no Redis structures.
//! A reader comes here to learn how bytes become a number or a number becomes bytes.

pub mod bits;
pub mod crc;
pub mod geohash;
pub mod glob;
pub mod lzf;
pub mod memsize;
pub mod num;
pub mod quote;
pub mod rng;
pub mod text;
