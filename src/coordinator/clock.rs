//! The process clock, the same that shards read.

pub(super) use crate::net::clock::now;
