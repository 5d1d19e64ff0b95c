//! The wire: requests in, replies out, for RESP2 and RESP3. Knows bytes and limits; knows no command,
//! no client and no socket. A reader comes here to see how a frame is cut up or written.

pub mod args;
pub mod reply;
pub mod request;

pub use args::{Arg, Args, OwnedArgs};
pub use reply::{Mark, Proto, Reply};
pub use request::{Input, Limits, ProtocolError, Request};
