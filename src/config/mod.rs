//! WHAT THE OPERATOR WROTE.

pub mod cores;
pub mod environment;
pub mod file;
mod glob;
pub mod problem;
pub mod quantity;
pub mod read;
pub mod secret;
mod url;
