//! TLS on a socket: rustls does the cryptography on bytes we move ourselves.
//!
//! One connection object is shared by the reader's pump and the writer; neither holds it across an await. Ciphertext
//! is read into a buffer of the pump's own, decrypted, and copied into the buffer that the reader was armed with.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;

use monoio::io::{AsyncWriteRent, OwnedReadHalf, OwnedWriteHalf, Splitable};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use super::buffers::{Buffer, TAIL_BYTES, room};
use super::stream::{Completion, Order, Reader, Socket, Writer, read_some, send_all};

/// Accepts TLS from a client. The caller bounds the time.
///
/// Errors: what the peer sent is no TLS, or its handshake fails; an alert has been sent where there is one to send.
pub async fn accept(socket: Socket, config: Arc<ServerConfig>) -> io::Result<(Reader, Writer)> {
    let session = ServerConnection::new(config).map_err(io::Error::other)?;
    handshake(socket, session.into()).await
}

/// Starts TLS towards a backend, verifying its name. The caller bounds the time.
///
/// Errors: the certificate does not verify, or the peer speaks no TLS.
pub async fn connect(
    socket: Socket,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> io::Result<(Reader, Writer)> {
    let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
    handshake(socket, session.into()).await
}

async fn handshake(socket: Socket, mut session: Connection) -> io::Result<(Reader, Writer)> {
    let fd = socket.as_raw_fd();
    let (mut read, mut write) = socket.into_split();
    let mut cipher: Buffer = Vec::with_capacity(CIPHER_BYTES);
    let mut fed = 0;
    let mut out: Buffer = Vec::new();
    session.set_buffer_limit(None); // bounded by `PIECE_BYTES`
    while session.is_handshaking() {
        if session.wants_write() {
            out = flush(fd, &mut write, &mut session, out).await?;
            continue;
        }
        if fed == cipher.len() {
            fed = 0;
            cipher.clear();
            let (count, buffer) = read_some(&mut read, cipher).await;
            cipher = buffer;
            if count? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        match decrypt(&mut session, &cipher[fed..]) {
            Ok(taken) => fed += taken,
            Err(error) => {
                let _ = flush(fd, &mut write, &mut session, out).await; // the alert that says why
                return Err(error);
            }
        }
    }
    out = flush(fd, &mut write, &mut session, out).await?; // a last flight, session tickets
    let session = Rc::new(RefCell::new(session));
    let reader = TlsReader { half: read, session: Rc::clone(&session), cipher, fed };
    Ok(secured(fd, reader, TlsWriter { fd, half: write, session, out }))
}

/// Feeds ciphertext to the session until it has all of it, or holds as much plaintext as it takes; how many bytes
/// are done with. All plaintext of earlier calls has to be read first.
///
/// Errors: a record that cannot be read.
fn decrypt(session: &mut Connection, cipher: &[u8]) -> io::Result<usize> {
    let mut rest = cipher;
    while !rest.is_empty() {
        let taken = session.read_tls(&mut rest)?;
        let state = session.process_new_packets().map_err(io::Error::other)?;
        if state.peer_has_closed() {
            return Ok(cipher.len()); // what follows a goodbye is ignored (RFC 8446 section 6.1)
        }
        if taken == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if state.plaintext_bytes_to_read() >= PLAIN_MAX {
            break;
        }
    }
    Ok(cipher.len() - rest.len())
}

/// Sends what the session wants to send.
async fn flush(
    fd: RawFd,
    half: &mut OwnedWriteHalf<Socket>,
    session: &mut Connection,
    mut out: Buffer,
) -> io::Result<Buffer> {
    out.clear();
    while session.wants_write() {
        session.write_tls(&mut out)?;
    }
    let end = out.len();
    let (sent, out) = send_all(fd, half, out, 0..end).await;
    sent.map(|()| out)
}

/// The receiving half of a TLS connection.
struct TlsReader {
    half: OwnedReadHalf<Socket>,
    session: Rc<RefCell<Connection>>,
    cipher: Buffer,
    /// Bytes of `cipher` that the session has.
    fed: usize,
}

impl TlsReader {
    /// Appends plaintext to `buffer`: what is there already, else what the next records bring. 0 after a
    /// `close_notify`; an end without one is an error, because a body delimited by it would be cut unseen.
    async fn read(&mut self, mut buffer: Buffer) -> Completion<usize> {
        loop {
            match self.take_plain(&mut buffer) {
                Ok(Some(count)) => return (Ok(count), buffer),
                Ok(None) => {}
                Err(error) => return (Err(error), buffer),
            }
            if self.fed == self.cipher.len()
                && let Err(error) = self.refill().await
            {
                return (Err(error), buffer);
            }
            match decrypt(&mut self.session.borrow_mut(), &self.cipher[self.fed..]) {
                Ok(taken) => self.fed += taken,
                Err(error) => return (Err(error), buffer),
            }
        }
    }

    async fn refill(&mut self) -> io::Result<()> {
        self.fed = 0;
        self.cipher.clear();
        let (count, cipher) = read_some(&mut self.half, std::mem::take(&mut self.cipher)).await;
        self.cipher = cipher;
        if count? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn take_plain(&mut self, buffer: &mut Buffer) -> io::Result<Option<usize>> {
        let start = buffer.len();
        buffer.resize(start + room(buffer).min(PLAIN_MAX), 0); // no more than comes: the rest of a large one is untouched
        let read = self.session.borrow_mut().reader().read(&mut buffer[start..]);
        buffer.truncate(start + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The sending half of a TLS connection.
struct TlsWriter {
    fd: RawFd,
    half: OwnedWriteHalf<Socket>,
    session: Rc<RefCell<Connection>>,
    out: Buffer,
}

impl TlsWriter {
    /// Encrypts these bytes and writes the records: so many at a time that ciphertext stays small beside a large body.
    pub(super) async fn write_all(&mut self, plain: &[u8]) -> io::Result<()> {
        for piece in plain.chunks(PIECE_BYTES) {
            let mut out = std::mem::take(&mut self.out);
            out.clear();
            self.encrypt(piece, &mut out)?;
            let end = out.len();
            let (sent, out) = send_all(self.fd, &mut self.half, out, 0..end).await;
            self.out = out;
            sent?;
        }
        Ok(())
    }

    /// Says goodbye in a record, then ends our side.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        self.session.borrow_mut().send_close_notify();
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        if self.encrypt(&[], &mut out).is_ok() {
            let end = out.len();
            let _ = send_all(self.fd, &mut self.half, out, 0..end).await;
        }
        self.half.shutdown().await
    }

    fn encrypt(&mut self, plain: &[u8], out: &mut Buffer) -> io::Result<()> {
        let mut session = self.session.borrow_mut();
        session.writer().write_all(plain)?;
        while session.wants_write() {
            session.write_tls(out)?;
        }
        Ok(())
    }
}

/// One TLS record with its overhead fits (RFC 8446 section 5.2).
const CIPHER_BYTES: usize = 16 * 1024 + 512 + TAIL_BYTES;
/// Plaintext encrypted at a time: the records of a whole buffer of ours, as a rule (by taste).
const PIECE_BYTES: usize = 64 * 1024;
/// Plaintext of one full record. rustls refuses ciphertext while more than this waits to be read.
const PLAIN_MAX: usize = 16 * 1024;

/// The halves of a socket whose TLS handshake is done.
fn secured(fd: RawFd, mut read: TlsReader, mut write: TlsWriter) -> (Reader, Writer) {
    let reader = Reader::new(|handover| async move {
        loop {
            let buffer = handover.order().await;
            handover.put(read.read(buffer).await);
        }
    });
    let writer = Writer::new(fd, false, |handover| async move {
        loop {
            let outcome = match handover.order().await {
                Order::Range(buffer, range) => (write.write_all(&buffer[range]).await, buffer),
                Order::Shared(buffer, range) => (write.write_all(&buffer[range]).await, Buffer::new()),
                Order::Finish => (write.finish().await, Buffer::new()),
            };
            handover.put(outcome);
        }
    });
    (reader, writer)
}
