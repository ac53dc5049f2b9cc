//! A whole response as a stream: it is the one record of it.

use crate::dialect::Unfit;
use crate::dialect::whole::{Events, Object};

pub(in crate::dialect) fn as_stream(body: &[u8], _: bool, events: &mut Events<'_>) -> Result<(), Unfit> {
    let response = Object::read(body)?;
    if response.get("candidates")?.is_none() && response.get("promptFeedback")?.is_none() {
        return Err(Unfit("there is no 'candidates'"));
    }
    events.open();
    events.members(&response, &[]);
    events.close()
}
