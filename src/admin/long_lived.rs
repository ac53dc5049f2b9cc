//! Responses that go on for as long as a person looks, and no longer than that person may.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use hyper::body::Frame;

use super::gate::{Gate, Pass};
use crate::clock;

/// Set by a handler whose response may take a long time.
#[derive(Clone, Default)]
pub(super) struct LongLived(Arc<AtomicBool>);

impl LongLived {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// A body that ends at the first frame that its caller may not have any more: its token or session has ended.
    pub(super) fn body<B>(gate: Arc<Gate>, pass: Pass, body: B) -> Body
    where
        B: hyper::body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<axum::BoxError>,
    {
        Body::new(Guarded { gate, pass, body })
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The frames of a body, as long as its caller is admitted.
struct Guarded<B> {
    gate: Arc<Gate>,
    pass: Pass,
    body: B,
}

impl<B: hyper::body::Body<Data = Bytes> + Unpin> hyper::body::Body for Guarded<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame.filter(|_| self.gate.still_admits(&self.pass, clock::now())))
    }
}
