//! Why a wait ends early, and waits with a deadline.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::state::Core;
use crate::error::{Fault, FaultKind};
use crate::net::deadline::Deadline;

/// Why a wait ended early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interrupt {
    /// The client closed its connection, or broke it.
    ClientGone,
    /// The deadline is exceeded; the place that set it knows what it was for.
    DeadlineExceeded,
    /// The gateway stops and cuts exchanges that still run.
    Stopping,
    /// The client does not read what it is sent.
    ClientStalled,
    /// The client's key was revoked during the exchange.
    KeyRevoked,
}

impl Interrupt {
    /// What it means for the exchange; `exceeded` says what the deadline was for.
    #[cold]
    pub(crate) fn fault(self, exceeded: impl FnOnce() -> Fault) -> Fault {
        match self {
            Self::ClientGone => Fault::new(FaultKind::ClientGone, "the client left before its response"),
            Self::ClientStalled => Fault::new(FaultKind::ClientStalled, "the client stopped reading"),
            Self::Stopping => Fault::new(FaultKind::Draining, "the gateway is shutting down"),
            Self::KeyRevoked => {
                Fault::new(FaultKind::KeyRevoked, "the API key has been taken out of service")
            }
            Self::DeadlineExceeded => exceeded(),
        }
    }

    /// The kind of fault if it ended a write to the client, or a wait for it.
    pub(super) fn client_fault(self) -> FaultKind {
        match self {
            Self::ClientGone => FaultKind::ClientGone,
            Self::DeadlineExceeded | Self::ClientStalled => FaultKind::ClientStalled,
            Self::Stopping => FaultKind::Draining,
            Self::KeyRevoked => FaultKind::KeyRevoked,
        }
    }
}

/// A waker between an operation and the task that waits for it among other things: it wakes the task, and remembers that
/// it did, so that the task polls the operation only when there is a reason to.
pub(crate) struct FlagWaker {
    woken: AtomicBool,
    task: Waker,
}

impl FlagWaker {
    /// For the task that is being polled. Starts as woken: the first poll of the operation is due.
    pub(crate) fn of(context: &Context<'_>) -> Arc<Self> {
        Arc::new(Self { woken: AtomicBool::new(true), task: context.waker().clone() })
    }

    /// Makes the next poll of the task poll the operation.
    pub(crate) fn mark(&self) {
        self.woken.store(true, Ordering::Relaxed);
    }

    /// Whether it was woken since this was last called.
    pub(crate) fn take_woken(&self) -> bool {
        self.woken.load(Ordering::Relaxed) && self.woken.swap(false, Ordering::Relaxed)
    }
}

impl Wake for FlagWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.mark();
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
        if deadline.is_due(context) { Poll::Ready(Err(Interrupt::DeadlineExceeded)) } else { Poll::Pending }
    })
    .await
}

/// Waits for `future`, until the shard accepts no more clients. `row` only registers the task to be woken.
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
