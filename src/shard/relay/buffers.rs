//! The buffers of a relay: each read has room for a chunk size in front.

use crate::net::buffers::{Buffer, grow, room};
use crate::shard::client::Client;
use crate::shard::frame::SIZE_BYTES;

/// A buffer for the next read, sized by what the last one brought.
pub(super) fn empty_buffer(client: &Client, last_bytes: usize) -> Buffer {
    let buffers = &client.shard.buffers;
    ready(if last_bytes > LARGE_FROM { buffers.large() } else { buffers.small() })
}

/// A buffer for the next read, with the held tail of an event in front.
pub(super) fn held_buffer(client: &Client, held: &[u8]) -> Buffer {
    let mut buffer = ready(client.shard.buffers.large());
    buffer.extend_from_slice(held);
    let short = room(&buffer) < held.len();
    grow(&mut buffer, if short { held.len() } else { 1 });
    buffer
}

/// An empty buffer with room for a chunk size in front of what will be read.
pub(super) fn ready(mut buffer: Buffer) -> Buffer {
    buffer.clear();
    buffer.resize(HEADROOM, 0);
    buffer
}

/// Room in front of every read for the size line of its chunk.
pub(super) const HEADROOM: usize = SIZE_BYTES;
/// Payload of a read from which the next one gets a large buffer (by taste: half of a small buffer's default).
pub(super) const LARGE_FROM: usize = 2048;
