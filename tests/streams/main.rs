//! Streams: every byte in order, cuts that stay cuts, heartbeats, conversions, and clients that leave.

mod cancels;
mod conversions;
mod heartbeat;
mod streaming;
mod truth;
