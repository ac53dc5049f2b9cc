//! sim
pub mod blocks;
pub mod engine;
