//! Everything the operating system gives: memory, clocks, processes, signals, files, logging. This folder
//! and `collections` are the only ones with `unsafe`; nothing here knows a key, a client or a command.
#![allow(unsafe_code)]

pub mod alloc; // memory, and how much of it is used
pub mod background; // threads for freeing, fsync and closing
pub mod clock; // the only source of time
pub mod crash; // reports of fatal signals; the watchdog
pub mod defrag; // moving blocks out of sparse slabs
pub mod file; // durable files
pub mod fork; // children with a frozen copy of memory
pub mod locale; // the order of texts
pub mod log; // where log lines go
pub mod longdouble; // C's long double
pub mod lua; // the machine that runs scripts
pub mod panic; // reports of broken invariants
pub mod process; // this process as the system sees it
pub mod signals; // signals that steer the server
pub mod wire; // a connection past the event loop
