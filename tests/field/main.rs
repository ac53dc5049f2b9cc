//! Faults that users of comparable gateways report in public, tried on this one: one small input of a kind, and others
//! of the same kind beside it.

mod addresses;
mod answers;
mod base_urls;
mod browsers;
mod certificates;
mod client_certificates;
mod egress;
mod encodings;
mod endpoints;
mod failures;
mod failures_more;
mod forwarded;
mod front;
mod heartbeats;
mod heartbeats_ends;
mod ids;
mod long_events;
mod naming;
mod network;
mod openings;
mod process;
mod records;
mod statuses;
mod stream_ends;
mod timing;
mod tokens;
