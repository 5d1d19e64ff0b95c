//! AiKv: a Redis-compatible key-value server. The modules in reading order, lowest floor first;
//! a file imports only from its own folder and from lower floors (`tests/tidy.rs` checks it).

pub mod sys; // floor 0: everything the operating system gives
pub mod util; // floor 0: pure helpers

pub mod collections; // floor 1: data structures, no Redis words
pub mod config; // floor 1: the option table and its loaders
pub mod resp; // floor 1: the wire

pub mod value; // floor 2: the data types

pub mod keyspace; // floor 3: databases, expiry, eviction, change log

pub mod aof; // floor 4: the append-only log's files
pub mod rdb; // floor 4: snapshots and DUMP payloads

pub mod command; // floor 5: command rows and the data commands

pub mod acl; // floor 6: users and what they may do
pub mod pubsub; // floor 6: who listens to which channels
pub mod script; // floor 6: scripts and functions
pub mod stats; // floor 6: counters, slow log, latency
pub mod tracking; // floor 6: client-side caching

pub mod server; // floor 7: clients, call, gates, units; the server commands

pub mod net; // floor 8: the reactor, the only user of mio

pub mod start; // above the floors: arguments, configuration, log, reactor
