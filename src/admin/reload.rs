//! Reloads and upgrades: asked of the coordinator, which does one after the other.

use tokio::sync::{mpsc, oneshot};

use crate::coordinator::reload::{Request, Told};
use crate::coordinator::roster::{Author, Change, ChangeError, Changed};

/// Where they are asked for.
#[derive(Clone)]
pub(super) struct Reloader(pub(super) mpsc::Sender<Request>);

/// What came of it.
pub(super) enum Asked<T, E = String> {
    Done(T),
    Refused(E),
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

    /// Responds once a change is written, and every shard serves by it; or why it is not.
    pub(super) async fn change(&self, change: Change, author: Author) -> Asked<Changed, ChangeError> {
        self.ask(|asked| Request::Change(change, author, asked)).await
    }

    async fn ask<T, E>(&self, request: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Request) -> Asked<T, E> {
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
