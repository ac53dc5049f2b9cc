//! From chat completions into the neutral form.

mod events;
mod request;
mod whole;

pub use events::Events;
pub use request::request;
pub use whole::{body, fault};
