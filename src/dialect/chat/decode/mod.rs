//! From chat completions into the neutral form.

mod events;
mod fault;
mod request;
mod whole;

pub use events::Events;
pub use fault::fault;
pub use request::request;
pub use whole::body;
