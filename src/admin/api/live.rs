//! One SSE stream with all that a page needs: a snapshot, then what is new every second.
//!
//! An event is written once and handed to every subscriber. A subscriber that does not read is let go and comes back by
//! itself; nothing waits for it. Nor does a stream go on after the token or the session that opened it has ended.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use hyper::body::Frame;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Problem, Shared, overview, past, requests};
use crate::admin::Caller;
use crate::admin::history::{Second, Series};
use crate::admin::long_lived::LongLived;
use crate::coordinator::lock;

/// Streams at once: fewer than connections, so that a scraper always finds one.
const SUBSCRIBERS_MAX: usize = 32;

/// Events that wait for a subscriber that does not read.
const EVENTS_MAX: usize = 8;

/// Requests told per event; more are counted.
const REQUESTS_MAX: usize = 20;

/// The largest event that is sent.
const EVENT_BYTES_MAX: usize = 256 * 1024;

/// The subscribers, and the number of the newest request that they have been told of.
#[derive(Default)]
pub(in crate::admin) struct Live {
    subscribers: Mutex<Vec<Subscriber>>,
    told: Mutex<u64>,
}

struct Subscriber {
    events: mpsc::Sender<Bytes>,
    /// Only each so many-th second is told.
    every: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pace {
    /// Seconds between two events; a page nobody looks at asks for 10.
    every: Option<u64>,
}

/// What a page begins with.
#[derive(Serialize)]
struct Snapshot {
    overview: overview::Overview,
    history: super::Past,
    requests: Vec<requests::Row>,
}

/// What a second brought.
#[derive(Serialize)]
struct Tick {
    overview: overview::Overview,
    second: Option<Second>,
    /// With every fifth second: a column of the heat map and a step of the chart.
    column: Option<Vec<u64>>,
    models: Option<Vec<Series>>,
    /// The newest requests, oldest first, and how many more there were.
    requests: Vec<requests::Row>,
    more: u64,
}

/// `GET /api/v1/live`.
pub(super) async fn stream(
    State(shared): State<Shared>,
    Extension(long): Extension<LongLived>,
    caller: Caller,
    pace: Query<Pace>,
) -> Result<Response, Problem> {
    let (events, receiver) = mpsc::channel(EVENTS_MAX);
    let snapshot =
        Snapshot { overview: overview::read(&shared), history: past(&shared), requests: newest(&shared) };
    // Room for the first event: the channel is new.
    let _ = events.try_send(event(
        "snapshot",
        lock(&shared.history).newest().map_or(0, |second| second.at),
        &snapshot,
    ));
    {
        let mut subscribers = lock(&shared.live.subscribers);
        subscribers.retain(|subscriber| !subscriber.events.is_closed());
        if subscribers.len() >= SUBSCRIBERS_MAX {
            let message = format!("{SUBSCRIBERS_MAX} live streams are open already");
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", message));
        }
        let every = pace.every.unwrap_or(1).clamp(1, 60);
        subscribers.push(Subscriber { events, every });
    }
    long.set();
    let mut response = Response::new(LongLived::body(shared.gate.clone(), caller.pass(), Events(receiver)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn newest(shared: &Shared) -> Vec<requests::Row> {
    let recent = &shared.current.load().recent;
    let rows = recent.find(0, 50, |_| true);
    rows.iter().map(|row| requests::row(row)).collect()
}

/// Called once a second, after the history was read.
pub(in crate::admin) fn tick(shared: &Shared) {
    let recent = shared.current.load().recent.clone();
    let before = std::mem::replace(&mut *lock(&shared.live.told), recent.newest());
    let mut subscribers = lock(&shared.live.subscribers);
    subscribers.retain(|subscriber| !subscriber.events.is_closed());
    if subscribers.is_empty() {
        return;
    }
    let (second, column, models) = {
        let history = lock(&shared.history);
        let second = history.newest().copied();
        let ends = second.is_some_and(|second| second.at.is_multiple_of(crate::admin::history::STEP));
        let charts = ends.then(|| history.charts(super::SERIES_MAX));
        let column = charts.as_ref().and_then(|charts| charts.columns.last().cloned());
        // The whole lines: which models have one may have changed.
        (second, column, charts.map(|charts| charts.models))
    };
    let (rows, more) = recent.after(before, REQUESTS_MAX);
    let tick = Tick {
        overview: overview::read(shared),
        second,
        column,
        models,
        requests: rows.iter().map(|row| requests::row(row)).collect(),
        more,
    };
    let at = second.map_or(0, |second| second.at);
    let event = event("tick", at, &tick);
    subscribers.retain(|subscriber| {
        !at.is_multiple_of(subscriber.every) || subscriber.events.try_send(event.clone()).is_ok()
    });
}

fn event<T: Serialize>(name: &str, id: u64, body: &T) -> Bytes {
    let text = serde_json::to_string(body).unwrap_or_default();
    if text.is_empty() || text.len() > EVENT_BYTES_MAX {
        return Bytes::from(format!("event: too_large\nid: {id}\ndata: {}\n\n", text.len()));
    }
    Bytes::from(format!("event: {name}\nid: {id}\nretry: 2000\ndata: {text}\n\n"))
}

/// The events of one subscriber as a body.
struct Events(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}
