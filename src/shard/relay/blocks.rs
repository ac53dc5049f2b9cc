//! The buffers of a relay: each read has room for a chunk size in front.

use crate::net::blocks::{Block, grow, room};
use crate::shard::connection::Client;
use crate::shard::respond::SIZE_BYTES;

/// A block for the next read, sized by what the last one brought.
pub(super) fn empty_block(client: &Client, last_bytes: usize) -> Block {
    let blocks = &client.shard.blocks;
    ready(if last_bytes > LARGE_FROM { blocks.large() } else { blocks.small() })
}

/// A block for the next read, with the held tail of an event in front.
pub(super) fn held_block(client: &Client, held: &[u8]) -> Block {
    let mut block = ready(client.shard.blocks.large());
    block.extend_from_slice(held);
    let short = room(&block) < held.len();
    grow(&mut block, if short { held.len() } else { 1 });
    block
}

/// An empty block with room for a chunk size in front of what will be read.
pub(super) fn ready(mut block: Block) -> Block {
    block.clear();
    block.resize(HEADROOM, 0);
    block
}

/// Room in front of every read for the size line of its chunk.
pub(super) const HEADROOM: usize = SIZE_BYTES;
/// Payload of a read from which the next one gets a large block (by taste: half of a small block's default).
pub(super) const LARGE_FROM: usize = 2048;
