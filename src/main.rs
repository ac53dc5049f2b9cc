//! Arguments to one of the commands; nothing else.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: ringway::alloc::Allocator = ringway::alloc::Allocator;

fn main() -> ExitCode {
    ringway::cli::main()
}
