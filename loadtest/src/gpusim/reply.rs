//! Writes one answer, honest or faulty: framing, quirks of the wire, and the place where a fault strikes.

use super::fault::Fault;
use super::quirk::{Quirk, Quirks};
use super::voice::Record;
use super::wire::Wire;
use std::time::Duration;

/// How an answer ended on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The client has all of it.
    Whole,
    /// An error answer, all of it.
    Refused,
    /// Broken on purpose; the connection must close.
    Faulted,
    /// The client went away first.
    ClientGone,
}

/// An answer without a stream.
#[derive(Debug)]
pub struct Page {
    /// Status code.
    pub status: u16,
    /// Media type.
    pub content_type: &'static str,
    /// Seconds for `retry-after`.
    pub retry_after: Option<u32>,
    /// The body.
    pub body: Vec<u8>,
}

impl Page {
    /// A JSON answer.
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self {
            status,
            content_type: "application/json",
            retry_after: None,
            body: body.to_string().into_bytes(),
        }
    }
}

/// Writes answers on one connection.
#[derive(Debug)]
pub struct Reply<'a> {
    /// Where to.
    pub wire: &'a mut Wire,
    /// How.
    pub quirks: &'a Quirks,
    /// What goes wrong.
    pub fault: Option<Fault>,
    /// Whether the connection stays open afterwards.
    pub keep_alive: bool,
}

impl Reply<'_> {
    /// Writes a whole answer.
    pub async fn page(self, page: Page) -> Ending {
        let mixed = self.quirks.has(Quirk::MixedCaseHeaders);
        let length_name = if mixed { "Content-Length" } else { "content-length" };
        let mut bytes = format!(
            "HTTP/1.1 {} {}\r\n{}content-type: {}\r\n{length_name}: {}\r\n",
            page.status,
            reason(page.status),
            self.common(),
            page.content_type,
            page.body.len()
        )
        .into_bytes();
        if let Some(seconds) = page.retry_after {
            bytes.extend_from_slice(format!("retry-after: {seconds}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        let head_bytes = bytes.len();
        bytes.extend_from_slice(&page.body);
        match self.fault {
            Some(Fault::Slow { pause }) => {
                if drip(self.wire, &bytes, pause).await.is_err() {
                    return Ending::ClientGone;
                }
            }
            Some(
                fault @ (Fault::CutAfter { .. }
                | Fault::CutMidEvent { .. }
                | Fault::ResetAfter { .. }
                | Fault::HangMidStream { .. }),
            ) => {
                let half = head_bytes + page.body.len() / 2;
                if self.wire.write(&bytes[..half]).await.is_err() {
                    return Ending::ClientGone;
                }
                return strike(self.wire, fault).await;
            }
            _ => {
                if self.wire.write(&bytes).await.is_err() {
                    return Ending::ClientGone;
                }
            }
        }
        if page.status < 400 { Ending::Whole } else { Ending::Refused }
    }

    /// Starts a stream; its head goes out with its first record, or at once under [`Quirk::SeparateHead`].
    ///
    /// # Errors
    /// The ending, when the client is gone already.
    pub async fn stream(&mut self) -> Result<Stream, Ending> {
        let coding =
            if self.quirks.has(Quirk::MixedCaseHeaders) { "Transfer-Encoding" } else { "transfer-encoding" };
        let head = format!(
            "HTTP/1.1 200 OK\r\n{}content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n\
             {coding}: chunked\r\n\r\n",
            self.common()
        );
        let mut stream = Stream { head: head.into_bytes(), events: 0 };
        if self.quirks.has(Quirk::SeparateHead) {
            let head = std::mem::take(&mut stream.head);
            self.wire.write(&head).await.map_err(|_| Ending::ClientGone)?;
        }
        Ok(stream)
    }

    /// Writes one record of a stream.
    ///
    /// # Errors
    /// The ending, when nothing may follow.
    pub async fn record(&mut self, stream: &mut Stream, record: &Record) -> Result<(), Ending> {
        let text = self.event_text(record, stream.events);
        let chunk = [format!("{:x}\r\n", text.len()).as_bytes(), text.as_bytes(), b"\r\n"].concat();
        let mut bytes = std::mem::take(&mut stream.head);
        let cut = match self.fault {
            Some(
                Fault::CutAfter { events } | Fault::ResetAfter { events } | Fault::HangMidStream { events },
            ) => (events == stream.events).then_some(0),
            Some(Fault::CutMidEvent { events }) => (events == stream.events).then_some(chunk.len() / 2),
            _ => None,
        };
        if let (Some(cut), Some(fault)) = (cut, self.fault) {
            bytes.extend_from_slice(&chunk[..cut]);
            self.wire.write(&bytes).await.map_err(|_| Ending::ClientGone)?;
            return Err(strike(self.wire, fault).await);
        }
        let head_bytes = bytes.len();
        bytes.extend_from_slice(&chunk);
        stream.events += 1;
        let done = match self.fault {
            Some(Fault::Slow { pause }) => drip(self.wire, &bytes, pause).await,
            _ if self.quirks.has(Quirk::SplitWrites) => {
                let middle = head_bytes + chunk.len() / 2;
                match self.wire.write(&bytes[..middle]).await {
                    Ok(()) => {
                        // Long enough that the client's kernel hands the halves over apart, by taste.
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        self.wire.write(&bytes[middle..]).await
                    }
                    error => error,
                }
            }
            _ => self.wire.write(&bytes).await,
        };
        done.map_err(|_| Ending::ClientGone)
    }

    /// Ends a stream properly.
    pub async fn end(self, stream: Stream) -> Ending {
        let bytes = [&stream.head[..], b"0\r\n\r\n"].concat();
        if self.wire.write(&bytes).await.is_err() { Ending::ClientGone } else { Ending::Whole }
    }

    fn common(&self) -> &'static str {
        if self.keep_alive { "server: gpusim\r\n" } else { "server: gpusim\r\nconnection: close\r\n" }
    }

    fn event_text(&self, record: &Record, index: usize) -> String {
        let end = if self.quirks.has(Quirk::CrlfEvents) { "\r\n" } else { "\n" };
        let space = if self.quirks.has(Quirk::NoSpace) { "" } else { " " };
        let mut text = String::with_capacity(record.data.len() + 64);
        if self.quirks.has(Quirk::KeepaliveComments) && index % 4 == 3 {
            text.extend([": keep-alive", end, end]);
        }
        if let Some(event) = record.event {
            text.extend(["event:", space, event, end]);
        }
        text.extend(["data:", space, &record.data, end, end]);
        text
    }
}

/// A stream under way.
#[derive(Debug)]
pub struct Stream {
    /// The head, until it is sent.
    head: Vec<u8>,
    /// Records sent.
    pub events: usize,
}

/// Ends the connection the way `fault` says, or waits for the client to end it.
pub async fn strike(wire: &mut Wire, fault: Fault) -> Ending {
    match fault {
        Fault::ResetAfter { .. } => wire.socket.reset_on_close(),
        Fault::HangMidStream { .. } | Fault::HangBeforeHead => {
            wire.gone().await;
            return Ending::ClientGone;
        }
        _ => {}
    }
    Ending::Faulted
}

async fn drip(wire: &mut Wire, bytes: &[u8], pause: Duration) -> std::io::Result<()> {
    for byte in bytes {
        tokio::time::sleep(pause).await;
        wire.write(std::slice::from_ref(byte)).await?;
    }
    Ok(())
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
