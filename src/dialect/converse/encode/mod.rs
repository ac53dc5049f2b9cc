//! From the neutral form into Converse.

mod fields;
mod history;
mod request;

pub use request::request;
