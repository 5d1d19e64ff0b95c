//! The report of `--check-rdb`: reads a whole snapshot and throws it away, telling what it holds, or where it
//! is damaged and what was read just before.
