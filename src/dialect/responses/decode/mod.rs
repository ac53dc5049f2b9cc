//! From Responses into the neutral form.

mod events;
mod items;
mod record;
mod request;
mod tools;
mod whole;

pub use events::Events;
pub use request::request;
pub use whole::{body, fault};

use crate::dialect::neutral::{Json, Object, malformed};
use crate::error::Fault;
use crate::wire::json::BadJson;

/// A member that is a word.
fn word(object: &Object<'_>, name: &str) -> Option<String> {
    Some(object.text(name)?.to_plain()?.into_owned())
}

fn read<'a>(value: Json<'a>, at: &str) -> Result<Object<'a>, Fault> {
    if value.first() != Some(&b'{') {
        return Err(malformed(format!("'{at}' has to be an object")));
    }
    Object::read(value).map_err(|bad| broken(at, bad))
}

fn broken(at: &str, bad: BadJson) -> Fault {
    malformed(format!("'{at}': {}", bad.reason))
}

fn missing(at: &str, member: &str, expected: &str) -> Fault {
    malformed(format!("'{at}.{member}' has to be {expected}"))
}
