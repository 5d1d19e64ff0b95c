//! The append-only log on disk: which files it has, what is in them, how they are read and written. Knows the
//! keyspace's values (a rewrite lists them as commands), no server and no client: those are in
//! `server/aof.rs`.
//!
//! - `manifest`: the list of the log's files. `reader`: commands out of a file. `log`: the file that is
//!   being written. `rewrite`: values as commands. `check`: the report of `--check-aof`.
//!
//! The format is Redis' (multi-part AOF of version 7): a base, the increments since, and a manifest that
//! names them; each file is a run of requests in the protocol, the base may be a snapshot. Lines that begin
//! with `#` stand between requests and are passed over by Redis. AiKv knows two of them: `#TS:<seconds>`, the
//! time at which what follows was written, and `#CRC:<16 hex digits>@<offset>`, the CRC-64 of all bytes of
//! the file before the line, which stands at that offset.

pub mod check;
pub mod log;
pub mod manifest;
pub mod reader;
pub mod rewrite;
