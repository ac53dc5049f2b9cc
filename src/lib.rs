//! Ringway: an AI gateway.
#![forbid(unsafe_code)]
