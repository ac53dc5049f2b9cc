//! Waiting for one thing while two others may end the wait: the client leaves, or a deadline comes.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use super::Shard;
use super::connection::Client;
use crate::net::deadline::Deadline;

/// Why a wait ended early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interrupt {
    /// The client closed its connection, or broke it.
    ClientGone,
    /// The deadline came; whoever set it knows what it means.
    Due,
    /// The gateway stops and cuts what still runs.
    Stopping,
}

/// Waits for `future`, at most until `deadline`.
pub(crate) async fn until<F: Future>(deadline: &Deadline, future: F) -> Result<F::Output, Interrupt> {
    let mut future = pin!(future);
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        if deadline.is_due(context) { Poll::Ready(Err(Interrupt::Due)) } else { Poll::Pending }
    })
    .await
}

/// Waits for `future`, until the shard takes no more clients. `row` is only there to be woken by.
pub(crate) async fn while_open<F: Future>(shard: &Shard, row: &Deadline, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| {
        row.is_due(context);
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if shard.is_closing() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Waits for `future`, as long as the client stays and its deadline has not come.
pub(crate) async fn with_client<F: Future>(client: &mut Client, future: F) -> Result<F::Output, Interrupt> {
    let mut future = pin!(future);
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        if client.shard.is_stopping() {
            return Poll::Ready(Err(Interrupt::Stopping));
        }
        if client.poll_gone(context).is_ready() {
            return Poll::Ready(Err(Interrupt::ClientGone));
        }
        if client.deadline.is_due(context) { Poll::Ready(Err(Interrupt::Due)) } else { Poll::Pending }
    })
    .await
}
