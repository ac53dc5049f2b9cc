//! SOCKETS. Buffers, streams (plain or TLS), dialling, listening, deadlines, the runtime.
//!
//! Knows no HTTP. The only room that knows monoio's I/O types: whoever wants to move to another completion
//! runtime rewrites these files and no other.
//!
//! Every socket, TCP or Unix, is a monoio `UnixStream` made from a standard library socket: that type issues RECV
//! and SEND on whatever descriptor it owns, reads no socket options behind our back, and lets us accept and
//! connect with the standard library (close-on-exec, no descriptor lost when a future is dropped).

pub mod buffers;
mod busy_poll;
pub mod deadline;
pub mod dial;
pub mod listen;
pub mod runtime;
pub mod stream;
pub mod ticker;
pub mod tls;
