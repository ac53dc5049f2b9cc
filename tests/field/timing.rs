//! Deadlines and heartbeats.
