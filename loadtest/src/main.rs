//! Load tools for Ringway.

fn main() {}
