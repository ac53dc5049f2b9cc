//! What all requests of a shard share: responses that are kept, and those that are on their way.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::policy::cache::Key;
use crate::policy::cache::store::{Entry, Store};
use crate::policy::cache::tape::{Reader, Tape};

/// The cache of one shard.
#[derive(Default)]
pub(crate) struct Caches {
    pub(super) store: RefCell<Store>,
    /// Responses on their way that requests may wait for.
    pub(super) flights: RefCell<HashMap<Key, Rc<Flight>>>,
    /// Bytes of responses on their way that are recorded.
    pub(super) recorded: Cell<usize>,
}

impl Caches {
    /// Bytes of memory of what is kept.
    pub(crate) fn bytes(&self) -> usize {
        self.store.borrow().bytes()
    }

    /// A little of the work of removing what is too old.
    pub(crate) fn sweep(&self, now: crate::units::Nanos, age_max: crate::units::Nanos) {
        self.store.borrow_mut().sweep(now, age_max, SWEEP_ROWS);
    }
}

/// A response on its way, and who waits for it.
pub(crate) struct Flight {
    state: RefCell<State>,
}

struct State {
    tape: Tape,
    opened: Option<Opened>,
    end: Option<End>,
    /// Where an event of our own can be put in, behind what is recorded: its sequence number.
    sequence: Option<u64>,
    /// By reader.
    wakers: Vec<Option<Waker>>,
}

/// The head of a response that is shared.
#[derive(Clone)]
pub(in crate::shard) struct Opened {
    pub(super) media_type: Box<[u8]>,
    pub(super) dropped: Option<Box<str>>,
    pub(super) is_stream: bool,
}

/// How a response on its way has ended.
#[derive(Clone)]
enum End {
    /// Properly; the response, unless it was too long to be kept.
    Whole(Option<Rc<Entry>>),
    Failed,
}

/// What a request that waits learns of the response first.
pub(super) enum Opening {
    /// A stream has begun: its first bytes are there.
    Stream(Opened),
    /// It is there.
    Whole(Rc<Entry>),
    /// There is none that could be shared.
    Failed,
}

/// What a reader gets next.
pub(super) enum More {
    /// More of it.
    Bytes,
    /// More of it, if anything, and it ends here.
    End,
    /// It was cut. An event of our own can be put in if there is a sequence number for it.
    Failed(Option<u64>),
}

impl Flight {
    pub(super) fn new(bytes_max: usize) -> Rc<Self> {
        let tape = Tape::new(bytes_max);
        let state = State { tape, opened: None, end: None, sequence: None, wakers: Vec::new() };
        Rc::new(Self { state: RefCell::new(state) })
    }

    pub(super) fn open(&self, opened: Opened) {
        let mut state = self.state.borrow_mut();
        state.opened = Some(opened);
        state.wake();
    }

    pub(super) fn append(&self, piece: &[u8], sequence: Option<u64>) {
        let mut state = self.state.borrow_mut();
        state.tape.append(piece);
        state.sequence = sequence;
        state.wake();
    }

    /// The response is not kept: only what those who wait still need of it.
    pub(super) fn give_up(&self) {
        self.state.borrow_mut().tape.give_up();
    }

    /// The response has come to its end. Back comes what can be kept of it.
    pub(super) fn finish(&self, tokens: u64) -> Option<Rc<Entry>> {
        let mut state = self.state.borrow_mut();
        // A response of no bytes is one that went wrong somewhere.
        let whole = state.tape.whole().filter(|body| !body.is_empty()).map(<[u8]>::to_vec);
        let entry = whole.zip(state.opened.clone()).map(|(body, opened)| {
            let Opened { media_type, dropped, is_stream } = opened;
            Rc::new(Entry { media_type, dropped, is_stream, body, tokens })
        });
        state.end = Some(End::Whole(entry.clone()));
        state.wake();
        entry
    }

    /// There is no more of it.
    pub(super) fn fail(&self) {
        let mut state = self.state.borrow_mut();
        if state.end.is_none() {
            state.end = Some(End::Failed);
            state.wake();
        }
    }
}

impl State {
    fn wake(&mut self) {
        self.wakers.iter_mut().filter_map(Option::take).for_each(Waker::wake);
    }
}

/// A place among those who wait for a response; left on drop.
pub(crate) struct Following {
    flight: Rc<Flight>,
    reader: Reader,
}

impl Following {
    /// A place at the start; `None` if too many wait, or the start is gone.
    pub(super) fn join(flight: &Rc<Flight>) -> Option<Self> {
        let mut state = flight.state.borrow_mut();
        if state.tape.readers() >= FOLLOWERS_MAX || state.end.is_some() {
            return None;
        }
        let reader = state.tape.join()?;
        Some(Self { flight: Rc::clone(flight), reader })
    }

    /// What the response is, once that is known.
    pub(super) fn poll_opening(&self, context: &Context<'_>) -> Poll<Opening> {
        let mut state = self.flight.state.borrow_mut();
        match (&state.end, &state.opened) {
            (Some(End::Whole(Some(entry))), _) => Poll::Ready(Opening::Whole(Rc::clone(entry))),
            // One that fails before its first byte leaves those who wait a request of their own.
            (_, Some(opened)) if opened.is_stream && state.tape.has_more(self.reader) => {
                Poll::Ready(Opening::Stream(opened.clone()))
            }
            (Some(_), _) => Poll::Ready(Opening::Failed),
            (None, _) => state.wait(self.reader, context),
        }
    }

    /// Appends what has come since the last time to `out`, at most `most` bytes.
    pub(super) fn poll_more(&self, most: usize, out: &mut Vec<u8>, context: &Context<'_>) -> Poll<More> {
        let mut state = self.flight.state.borrow_mut();
        let Some(piece) = state.tape.read(self.reader, most) else { return Poll::Ready(More::Failed(None)) };
        let has_some = !piece.is_empty();
        out.extend_from_slice(piece);
        let is_read = state.tape.is_read(self.reader);
        match &state.end {
            Some(End::Whole(_)) if is_read => Poll::Ready(More::End),
            _ if has_some => Poll::Ready(More::Bytes),
            Some(_) => Poll::Ready(More::Failed(state.sequence)),
            None => state.wait(self.reader, context),
        }
    }
}

impl State {
    fn wait<T>(&mut self, reader: Reader, context: &Context<'_>) -> Poll<T> {
        let index = reader.index();
        if self.wakers.len() <= index {
            self.wakers.resize(index + 1, None);
        }
        self.wakers[index] = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut state = self.flight.state.borrow_mut();
        state.tape.leave(self.reader);
        if let Some(waker) = state.wakers.get_mut(self.reader.index()) {
            *waker = None;
        }
    }
}

/// Requests that wait for one response; more are sent to a backend. Chosen, not measured.
const FOLLOWERS_MAX: usize = 1024;
/// Responses that are looked at in a sweep, once a second.
const SWEEP_ROWS: usize = 256;
