//! Everything the operating system gives: memory, clocks, processes, signals, files, logging. This folder
//! and `collections` are the only ones with `unsafe`; nothing here knows a key, a client or a command.
#![allow(unsafe_code)]

pub mod alloc;
pub mod clock;
pub mod longdouble;
