//! Lua 5.1 for scripts and functions: a [`Vm`] compiles code and runs it in steps. What runs in it sees a
//! sandbox (`sandbox.rs`, `base.rs`), the `redis` table (`api.rs`) and the libraries cjson, cmsgpack, struct
//! and bit. It knows no server: a command that a script wants to run is a [`Step`] the caller answers.
//!
//! A script runs on a stack of its own (a stackful coroutine), so that it can stop in the middle of any Lua
//! or C frame and go on later. Lua raises errors by `longjmp`, which skips Rust frames without dropping
//! anything: **a function that Lua calls holds nothing with a destructor while it calls Lua**. Buffers
//! belong to the [`state::Context`] instead. That is the contract of every `unsafe fn` here: it is called
//! with a live state, on the stack of its script, with the room on the Lua stack that it needs (Lua
//! guarantees 20 slots to each function; loops and recursion check for more).
#![allow(unsafe_op_in_unsafe_fn)]
#![allow(clippy::missing_safety_doc)]

mod api;
mod base;
mod bits;
mod convert;
mod debug;
mod json;
mod json_decode;
mod msgpack;
mod pack;
mod register;
mod sandbox;
mod state;
#[cfg(test)]
mod tests;
mod vm;

pub use convert::Out;
pub use debug::{Frame, NOTES_BYTES_MAX, Notes, Noting, Stop};
pub use register::Registration;
pub use vm::{Arg, Failure, Function, Returned, Role, Step, Vm};
