//! One process gives way to the next without closing a door: the new one gets the listening sockets of the old one, says
//! when it serves, and only then does the old one stop accepting. What waits in the sockets' queues waits for whoever
//! accepts next, so nobody is refused and nobody is reset.
//!
//! The sockets travel over a pair of Unix sockets (SCM_RIGHTS, unix(7)) of which the new process has one end as its
//! standard input: nobody else can ask for them. They go in packets of up to [`PER_PACKET`], each with the addresses as
//! text; an empty packet ends the list; the response is [`READY`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, send, sendmsg, socketpair,
};

use crate::coordinator::Handover;

/// Tells a process that its standard input brings the sockets of the one before.
const TAKE_OVER: &str = "RINGWAY_TAKE_OVER";
/// The response of a process that serves.
const READY: &[u8] = b"ready";
/// Sockets in one packet; the kernel takes 253.
const PER_PACKET: usize = 64;
/// Bytes of the addresses in one packet.
const PACKET_BYTES: usize = PER_PACKET * 64;
/// How long the next process may take until it serves: its names have to be resolved, and whoever asked is waiting.
const PATIENCE: Duration = Duration::from_secs(9);

/// Listening sockets by their addresses.
pub(super) type Sockets = BTreeMap<SocketAddr, Vec<TcpListener>>;

/// The sockets of the process before; none if there was no such process. They are blocking or not as they were.
///
/// Errors: the process before does not keep to the protocol.
pub(super) fn take_over() -> io::Result<Sockets> {
    let mut sockets = Sockets::new();
    if std::env::var_os(TAKE_OVER).is_none() {
        return Ok(sockets);
    }
    let stdin = io::stdin();
    loop {
        let (addresses, received) = receive(stdin.as_fd())?;
        if addresses.is_empty() {
            return Ok(sockets);
        }
        if addresses.len() != received.len() {
            return Err(io::Error::other("the process before sent sockets without their addresses"));
        }
        for (address, socket) in addresses.into_iter().zip(received) {
            sockets.entry(address).or_default().push(TcpListener::from(socket));
        }
    }
}

/// Tells the process before that this one serves; a process that took nothing over tells nobody.
pub(super) fn tell_ready() -> io::Result<()> {
    if std::env::var_os(TAKE_OVER).is_some() {
        send(io::stdin(), READY, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

fn receive(from: BorrowedFd<'_>) -> io::Result<(Vec<SocketAddr>, Vec<OwnedFd>)> {
    let mut text = vec![0; PACKET_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_PACKET))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(from, &mut [IoSliceMut::new(&mut text)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut sockets = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            sockets.extend(rights);
        }
    }
    let text = std::str::from_utf8(&text[..message.bytes]).map_err(io::Error::other)?;
    let addresses = text.lines().map(|line| line.parse().map_err(io::Error::other));
    Ok((addresses.collect::<io::Result<_>>()?, sockets))
}

/// This process's end: a second hold on every listening socket, and how to start the next process.
pub(super) struct Successor {
    /// Empty once this process stops accepting.
    sockets: Mutex<Vec<(SocketAddr, TcpListener)>>,
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Successor {
    /// With the program's path as it is now: a new version will lie there.
    pub(super) fn new(sockets: Vec<(SocketAddr, TcpListener)>) -> io::Result<Self> {
        let arguments = std::env::args_os().skip(1).collect();
        Ok(Self { sockets: Mutex::new(sockets), program: std::env::current_exe()?, arguments })
    }

    fn offer(&self, to: &OwnedFd) -> io::Result<()> {
        let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        for packet in sockets.chunks(PER_PACKET) {
            let text: String = packet.iter().map(|(address, _)| format!("{address}\n")).collect();
            let rights: Vec<BorrowedFd<'_>> = packet.iter().map(|(_, socket)| socket.as_fd()).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_PACKET))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !ancillary.push(SendAncillaryMessage::ScmRights(&rights)) {
                return Err(io::Error::other("too many sockets for one packet"));
            }
            sendmsg(to, &[IoSlice::new(text.as_bytes())], &mut ancillary, SendFlags::NOSIGNAL)?;
        }
        send(to, &[], SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

impl Handover for Successor {
    fn hand_over(&self) -> io::Result<u32> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let mut command = Command::new(&self.program);
        let mut next = command.args(&self.arguments).env(TAKE_OVER, "1").stdin(theirs).spawn()?;
        drop(command); // its hold on the other end, too: the end of the next process must be seen
        let response = self.offer(&ours).and_then(|()| wait_ready(&ours));
        if let Err(error) = response {
            let _ = next.kill(); // it may have ended by itself
            let ended = next.wait()?;
            return Err(io::Error::new(
                error.kind(),
                format!("the next process does not serve ({ended}): {error}"),
            ));
        }
        Ok(next.id())
    }

    fn close(&self) {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn wait_ready(from: &OwnedFd) -> io::Result<()> {
    rustix::net::sockopt::set_socket_timeout(from, rustix::net::sockopt::Timeout::Recv, Some(PATIENCE))?;
    let mut response = [0; READY.len()];
    let (_, length) = rustix::net::recv(from, &mut response[..], RecvFlags::empty())?;
    match length {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has ended")),
        _ if response == READY => Ok(()),
        _ => Err(io::Error::other("it says something else than that it is ready")),
    }
}
