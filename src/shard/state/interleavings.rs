//! How shards end, without their sockets: what a shard does with clients at the end of its life, step by step.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::*;
use crate::net::listen::Accepted;
use crate::sync::interleavings::{check, spawn, yield_now};

fn client() -> Accepted {
    let (stream, _peer) = UnixStream::pair().expect("a socket pair");
    let stream = TcpStream::from(OwnedFd::from(stream));
    Accepted { stream, client: ([127, 0, 0, 1], 1).into(), listener: 0 }
}

/// The last of a shard's life: a client accepted before the shard has heard that it is to close goes to the other one.
/// Returns how many clients it has served.
fn last_ticks(id: ShardId, other: usize, control: &Arc<Control>, spill: &Spill) -> usize {
    let presence = control.enter();
    let mut served = usize::from(spill.hand_over(other, client()).is_err());
    presence.close();
    loop {
        served += std::iter::from_fn(|| spill.handed(id.index())).count();
        if receives_no_clients(id, control, spill) {
            return served;
        }
        yield_now();
    }
}

#[test]
fn a_client_handed_over_while_shards_close_is_served_by_one_of_them() {
    check(|| {
        let control = Arc::new(Control::new(2));
        let (spill, _bells) = Spill::new(2).expect("socket pairs");
        let shared = (Arc::clone(&control), Arc::clone(&spill));
        let other = spawn(move || last_ticks(ShardId::new(1), 0, &shared.0, &shared.1));
        let served = last_ticks(ShardId::new(0), 1, &control, &spill);
        assert_eq!(served + other.join().unwrap(), 2);
        assert!(control.all_ended());
    });
}
