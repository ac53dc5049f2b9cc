//! One connection: both directions, and the end that one of them brings to the other.

use super::draw::{Direction, Line, Strike, resets_at_once};
use super::pipe::{self, Over, Tally};
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// Both sides had their FIN.
    Closed,
    /// As drawn: both sides got a FIN.
    Cut,
    /// As drawn: both sides got a RST.
    Reset,
    /// As drawn: the port was closed in its place.
    Refused,
    /// The client's socket failed; the target got a RST.
    ClientGone,
    /// The target's socket failed; the client got a RST.
    TargetGone,
    /// The target could not be dialled; the client got a RST.
    Unreachable,
    /// It was open when the proxy stopped.
    Stopped,
}

/// What a connection needs to know.
pub(super) struct Case<'a> {
    pub(super) target: SocketAddr,
    pub(super) seed: u64,
    pub(super) number: u64,
    pub(super) strikes: &'a [Strike],
    pub(super) up: &'a Tally,
    pub(super) down: &'a Tally,
}

impl Case<'_> {
    /// Relays from accept to the end.
    pub(super) async fn run(&self, client: TcpStream) -> Ended {
        if resets_at_once(self.strikes) {
            reset(&client);
            return Ended::Reset;
        }
        let dialled = tokio::select! {
            biased;
            dialled = dial(self.target) => dialled,
            () = pipe::gone(&client) => return Ended::ClientGone,
        };
        let target = match dialled {
            Ok(target) => target,
            Err(error) => {
                reset(&client);
                // It had accepted, and was gone before that was seen here.
                let accepted = error.kind() == io::ErrorKind::ConnectionReset;
                return if accepted { Ended::TargetGone } else { Ended::Unreachable };
            }
        };
        for socket in [&client, &target] {
            // Refused only on a socket that is already dead.
            let _ = socket.set_nodelay(true);
        }
        let ended = self.relay(&client, &target).await;
        match ended {
            Ended::Closed => {}
            Ended::Cut => self.part(&client, &target).await,
            _ => {
                reset(&client);
                reset(&target);
            }
        }
        ended
    }

    async fn relay(&self, client: &TcpStream, target: &TcpStream) -> Ended {
        let line = |direction| Line::of(self.strikes, direction, self.seed, self.number);
        let mut up = pin!(pipe::run(client, target, line(Direction::Up), self.up));
        let mut down = pin!(pipe::run(target, client, line(Direction::Down), self.down));
        let (mut up_open, mut down_open) = (true, true);
        while up_open || down_open {
            let (direction, over) = tokio::select! {
                over = &mut up, if up_open => (Direction::Up, over),
                over = &mut down, if down_open => (Direction::Down, over),
            };
            match (over, direction) {
                (Over::Finished, Direction::Up) => up_open = false,
                (Over::Finished, Direction::Down) => down_open = false,
                (Over::Cut, _) => return Ended::Cut,
                (Over::Reset, _) => return Ended::Reset,
                (Over::SenderGone, Direction::Up) | (Over::ReceiverGone, Direction::Down) => {
                    return Ended::ClientGone;
                }
                (Over::SenderGone, Direction::Down) | (Over::ReceiverGone, Direction::Up) => {
                    return Ended::TargetGone;
                }
            }
        }
        Ended::Closed
    }

    /// Sends both sides a FIN and reads what they still say: the kernel resets a connection that is closed with bytes
    /// unread, and this one is to be cut.
    async fn part(&self, client: &TcpStream, target: &TcpStream) {
        pipe::finish(client);
        pipe::finish(target);
        let both = async {
            // A side that fails is a side that has ended.
            let _ = tokio::join!(pipe::discard(client, self.up), pipe::discard(target, self.down));
        };
        // A side that does not end is reset by the close.
        let _ = tokio::time::timeout(PARTING, both).await;
    }
}

/// Connects; one that is given up on the way gets a RST if it had come to be.
async fn dial(target: SocketAddr) -> io::Result<TcpStream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    let target = socket.connect(target).await?;
    SockRef::from(&target).set_linger(None)?;
    Ok(target)
}

/// Makes the close that follows send a RST.
fn reset(socket: &TcpStream) {
    // Refused only on a socket that is already dead.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// How long a side may go on sending after a cut; by taste.
const PARTING: Duration = Duration::from_secs(5);
