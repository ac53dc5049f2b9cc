//! Waiting for one thing while two others may end the wait: the client leaves, or a deadline comes.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::connection::Client;
use super::{Core, early};
use crate::error::{Fault, FaultKind};
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
    /// The client takes nothing of what it is sent.
    ClientStalled,
    /// The client's key is out of service since it asked.
    KeyRevoked,
}

impl Interrupt {
    /// What it means for the exchange; `due` says what the deadline was for.
    #[cold]
    pub(crate) fn fault(self, due: impl FnOnce() -> Fault) -> Fault {
        match self {
            Self::ClientGone => Fault::new(FaultKind::ClientGone, "the client left before its response"),
            Self::ClientStalled => Fault::new(FaultKind::ClientStalled, "the client stopped reading"),
            Self::Stopping => Fault::new(FaultKind::Draining, "the gateway is shutting down"),
            Self::KeyRevoked => {
                Fault::new(FaultKind::KeyRevoked, "the API key has been taken out of service")
            }
            Self::Due => due(),
        }
    }
}

/// A waker between an operation and the task that waits for it among other things: the task is woken all the same, and
/// need not look at the operation unless this has rung.
pub(crate) struct Bell {
    rung: AtomicBool,
    task: Waker,
}

impl Bell {
    /// A bell of the task that is being polled, rung already: whoever has it looks at once.
    pub(crate) fn of(context: &Context<'_>) -> Arc<Self> {
        Arc::new(Self { rung: AtomicBool::new(true), task: context.waker().clone() })
    }

    /// Makes the task look at the next poll.
    pub(crate) fn ring(&self) {
        self.rung.store(true, Ordering::Relaxed);
    }

    /// Whether it has rung since this was last asked.
    pub(crate) fn has_rung(&self) -> bool {
        self.rung.load(Ordering::Relaxed) && self.rung.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
        self.task.wake_by_ref();
    }
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
pub(crate) async fn while_open<F: Future>(core: &Core, row: &Deadline, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| {
        row.is_due(context);
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if core.is_closing() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Waits for `future`, as long as the client stays and its deadline has not come. Meanwhile it gets its heartbeats.
pub(crate) async fn with_client<F: Future>(client: &mut Client, future: F) -> Result<F::Output, Interrupt> {
    let mut future = pin!(future);
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        match client.poll_interrupt(context) {
            Poll::Pending if client.early.is_some() => {
                early::poll(client, context).map_or(Poll::Pending, |gone| Poll::Ready(Err(gone)))
            }
            polled => polled.map(Err),
        }
    })
    .await
}
