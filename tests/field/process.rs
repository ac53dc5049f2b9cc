//! The process: memory of large bodies, shutdown, logs, what the documentation promises.

mod bodies;
mod codes;
mod documents;
mod door;
mod log;
mod memory;
mod shutdown;
mod sink;
