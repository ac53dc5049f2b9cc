//! The process: its commands, signals, upgrades, allocations, and the sandbox it runs in.

mod allocations;
mod commands;
mod machine;
mod sandbox;
mod upgrade;
