//! From Ollama's API into the neutral form.

mod events;
mod fault;
mod request;
mod whole;

pub use events::Events;
pub use fault::fault;
pub use request::{generate_request, request};
pub use whole::body;

use crate::dialect::neutral::{Json, Object, malformed};
use crate::error::Fault;
use crate::wire::json::BadJson;

fn read<'a>(value: Json<'a>, at: &str) -> Result<Object<'a>, Fault> {
    Object::read(value).map_err(|bad| broken(at, bad))
}

fn broken(at: &str, bad: BadJson) -> Fault {
    malformed(format!("'{at}': {}", bad.reason))
}
