//! Backends: bad responses, kept connections, TLS and socket files on the side of the backend.

mod answers;
mod decisions;
mod engines;
mod hedging;
mod holding;
mod kept;
mod resume;
mod routing;
mod tls;
mod unix;
