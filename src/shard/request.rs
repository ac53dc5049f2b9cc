//! A request that has been decided: what to send to a backend, and of which model.

use super::body::Body;
use crate::dialect::Api;
use crate::dialect::chat::resume::Said;
use crate::dialect::request::Peek;
use crate::units::{BackendId, ModelId};
use crate::wire::head::RequestHead;

/// A request that has been decided.
pub(super) struct Request<'a> {
    pub(super) head: &'a RequestHead,
    pub(super) body: &'a Body,
    pub(super) api: Api,
    pub(super) peek: Peek,
    pub(super) model: ModelId,
    /// The only backend that knows the response which the request refers to.
    pub(super) bound: Option<BackendId>,
    /// What that backend calls that response: text for the path, or a JSON string for the body; empty for none.
    pub(super) id: Vec<u8>,
    /// Of a response that was cut what the client has: only the rest is asked for.
    pub(super) said: Option<&'a Said>,
}
