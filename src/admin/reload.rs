//! Reloads and upgrades: asked of the coordinator, which does one after the other.

use tokio::sync::{mpsc, oneshot};

use crate::coordinator::reload::{Request, Told};

/// Where they are asked for.
#[derive(Clone)]
pub(super) struct Reloader(pub(super) mpsc::Sender<Request>);

/// What came of it.
pub(super) enum Asked<T> {
    Done(T),
    Refused(String),
    /// The process ends, so that nothing was asked.
    Ending,
}

impl Reloader {
    /// Responds once the reload has been done or refused.
    pub(super) async fn reload(&self) -> Asked<Told> {
        self.ask(Request::Reload).await
    }

    /// Responds once the next process serves, or has failed to; its number.
    pub(super) async fn upgrade(&self) -> Asked<u32> {
        self.ask(Request::Upgrade).await
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Request) -> Asked<T> {
        let (asked, told) = oneshot::channel();
        if self.0.send(request(asked)).await.is_err() {
            return Asked::Ending;
        }
        match told.await {
            Ok(Ok(done)) => Asked::Done(done),
            Ok(Err(reason)) => Asked::Refused(reason),
            Err(_) => Asked::Ending,
        }
    }
}
