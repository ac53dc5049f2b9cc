//! Refusals that several files give in the same words.

use crate::error::{Fault, FaultKind};
use crate::units::Nanos;

/// The refusal of a name that no model has.
pub(super) fn unknown_model(name: &str) -> Fault {
    Fault::new(FaultKind::ModelUnknown, format!("the model '{}' does not exist here", shown(name)))
}

/// The refusal of a web page that is not listed.
pub(super) fn foreign_page() -> Fault {
    Fault::new(
        FaultKind::OriginForbidden,
        "web pages of this Origin may not call the gateway: list it in [cors] origins",
    )
}

/// A client's text, short enough to be repeated in a refusal.
pub(super) fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN_BYTES)]
}

/// Bytes of a client's text that a refusal repeats.
const SHOWN_BYTES: usize = 128;

/// The only backend that knows the response is not available.
pub(super) fn bound_is_away() -> Fault {
    Fault::new(
        FaultKind::NoBackend,
        "the backend that made this response cannot be reached now, and no other one knows it",
    )
}

/// Every backend is at its limit.
pub(super) fn busy() -> Fault {
    Fault::new(FaultKind::BackendBusy, "every backend of this model is at its limit")
}

/// When to come back, if nothing better is known.
pub(super) const RETRY_SOON: Nanos = Nanos(1_000_000_000);

/// The fault of a response that is no stream and was not complete in time.
pub(super) const RESPONSE_LATE: &str = "the backend's response was not complete in time";

/// The refusal of a content rule.
pub(super) fn refused(rule: &str) -> Fault {
    Fault::new(FaultKind::ContentRefused, format!("the content rule '{rule}' does not allow this"))
}

/// The refusal of a content rule, with its reason.
pub(super) fn refused_because(rule: &str, reason: &str) -> Fault {
    Fault::new(FaultKind::ContentRefused, format!("the content rule '{rule}' does not allow this: {reason}"))
}
