//! THE OPERATOR'S DOOR: `/healthz`, `/readyz`, `/metrics`, `/status`, `POST /reload`, `POST /upgrade`, on a listener of its own.
//!
//! With a token in the configuration every path but the first two asks for it (`gate`); also those that do not exist.
//! Without one, they are closed to web pages of other sites instead. No response holds a secret.
//!
//! Runs on the coordinator's thread and reads what the coordinator gathers ([`Current`]); the coordinator does not know this
//! room: it is started through [`crate::coordinator::Door`].

mod gate;
mod metrics;
mod serve;
mod status;

use std::pin::Pin;

use tokio::sync::mpsc;

use crate::coordinator::Current;
use crate::coordinator::reload::Request;

/// Serves operators on `listener` for as long as the process runs. Reloads and upgrades are asked for over `requests`.
pub fn door(
    listener: tokio::net::TcpListener,
    current: Current,
    requests: mpsc::Sender<Request>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move { serve::run(listener, serve::router(current, requests)).await })
}

#[cfg(test)]
mod tests;
