//! AWS's event stream encoding (`application/vnd.amazon.eventstream`).
//!
//! ```text
//! u32 total length | u32 length of the headers | u32 CRC-32 of these 8 bytes | headers | payload | u32 CRC-32 of all before
//! header: u8 length of the name, name, u8 type, value; a string (type 7) has a u16 length in front
//! ```
//!
//! All numbers are big-endian. Source: the Amazon Transcribe developer guide, "Event stream encoding", and the Smithy
//! specification of the format. A message whose lengths or checksums are wrong is refused: what follows it cannot be found.

/// What a message says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// Whether it is an event, or a failure.
    pub kind: MessageKind,
    /// The type of the event or exception, or the code of an error.
    pub name: &'a [u8],
    /// What it brings; of an error the text in its headers.
    pub payload: &'a [u8],
}

/// What a message is (`:message-type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageKind {
    /// An event.
    Event,
    /// A failure that the service models.
    Exception,
    /// Another failure.
    Error,
}

/// The bytes are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadMessage(pub &'static str);

/// Lengths and their checksum.
const PRELUDE_BYTES: usize = 12;
/// A message without headers and payload.
const MESSAGE_BYTES_MIN: usize = PRELUDE_BYTES + 4;
/// The longest message: AWS's own bound on a payload, and on headers.
pub const MESSAGE_BYTES_MAX: usize = 24 * 1024 * 1024;

/// The name by which a reader of messages is told of one that cannot be read: no service has one in capitals with blanks.
pub const BROKEN: &[u8] = b"BROKEN MESSAGE";

/// The offset just behind the last complete message in `bytes`, 0 if none is complete.
pub fn last_boundary(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(next) = next_boundary(bytes, at) {
        at = next;
    }
    at
}

/// The offset just behind the message that starts at `from`, or `None` if it is not complete. A prelude that is broken makes
/// all that follows one message, which [`message`] refuses.
pub fn next_boundary(bytes: &[u8], from: usize) -> Option<usize> {
    let bytes = bytes.get(from..)?;
    match total(bytes)? {
        Ok(total) if total > bytes.len() => None,
        Ok(total) => Some(from + total),
        Err(_) => Some(from + bytes.len()),
    }
}

/// The length of the message at the start of `bytes`; `None` if its prelude is not complete.
fn total(bytes: &[u8]) -> Option<Result<usize, BadMessage>> {
    let total = word(bytes, 0)?;
    let headers = word(bytes, 4)?;
    let sum = word(bytes, 8)?;
    if crc32fast::hash(&bytes[..8]) != sum {
        return Some(Err(BadMessage("the checksum of a message's lengths is wrong")));
    }
    let (total, headers) = (total as usize, headers as usize);
    let fits =
        (MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX).contains(&total) && headers <= total - MESSAGE_BYTES_MIN;
    Some(if fits { Ok(total) } else { Err(BadMessage("the lengths of a message are out of their range")) })
}

/// Reads one message, which has to be all of `bytes`.
///
/// # Errors
/// Its lengths, a checksum or a header is wrong.
pub fn message(bytes: &[u8]) -> Result<Message<'_>, BadMessage> {
    match total(bytes).ok_or(BadMessage("a message is cut off"))?? {
        total if total == bytes.len() => {}
        _ => return Err(BadMessage("a message is cut off")),
    }
    let (body, sum) = bytes.split_at(bytes.len() - 4);
    if word(sum, 0) != Some(crc32fast::hash(body)) {
        return Err(BadMessage("the checksum of a message is wrong"));
    }
    let headers = word(bytes, 4).unwrap_or(0) as usize;
    let (headers, payload) = body[PRELUDE_BYTES..].split_at(headers);
    let mut message = Message { kind: MessageKind::Event, name: b"", payload };
    let mut rest = headers;
    while !rest.is_empty() {
        let (name, value, behind) = header(rest).ok_or(BadMessage("a header of a message is broken"))?;
        rest = behind;
        match name {
            b":message-type" => {
                message.kind = match value {
                    b"exception" => MessageKind::Exception,
                    b"error" => MessageKind::Error,
                    _ => MessageKind::Event,
                }
            }
            b":event-type" | b":exception-type" | b":error-code" => message.name = value,
            b":error-message" => message.payload = value,
            _ => {}
        }
    }
    Ok(message)
}

/// The header at the start of `bytes`: its name, its value (empty if it is no string), and what follows.
fn header(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (kind, rest) = rest.split_first()?;
    let fixed = match kind {
        0 | 1 => 0,
        2 => 1,
        3 => 2,
        4 => 4,
        5 | 8 => 8,
        9 => 16,
        6 | 7 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            return Some((name, if *kind == 7 { value } else { b"" }, rest));
        }
        _ => return None,
    };
    Some((name, b"", rest.get(fixed..)?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A message as a service would send it, for tests.
#[cfg(test)]
pub(crate) fn written(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    for (name, value) in headers {
        lines.push(name.len() as u8);
        lines.extend_from_slice(name.as_bytes());
        lines.push(7);
        lines.extend_from_slice(&(value.len() as u16).to_be_bytes());
        lines.extend_from_slice(value.as_bytes());
    }
    let mut out = Vec::new();
    out.extend_from_slice(&((MESSAGE_BYTES_MIN + lines.len() + payload.len()) as u32).to_be_bytes());
    out.extend_from_slice(&(lines.len() as u32).to_be_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out.extend_from_slice(&lines);
    out.extend_from_slice(payload);
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::noise::Noise;

    fn event(name: &str, payload: &str) -> Vec<u8> {
        let headers =
            [(":event-type", name), (":content-type", "application/json"), (":message-type", "event")];
        written(&headers, payload.as_bytes())
    }

    #[test]
    fn a_message_without_headers_and_payload_is_as_published() {
        // The empty message of the specification's test suite: length 16, no headers.
        let bytes = [0, 0, 0, 0x10, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff];
        assert_eq!(written(&[], b""), bytes);
        assert_eq!(message(&bytes).unwrap(), Message { kind: MessageKind::Event, name: b"", payload: b"" });
    }

    #[test]
    fn messages_are_found_and_read_at_every_cut() {
        let exception =
            written(&[(":message-type", "exception"), (":exception-type", "throttlingException")], b"{}");
        let stream = [event("messageStart", "{\"role\":\"assistant\"}"), exception].concat();
        let first = next_boundary(&stream, 0).unwrap();
        for cut in 0..stream.len() {
            let expected = if cut < first { 0 } else { first };
            assert_eq!(last_boundary(&stream[..cut]), expected, "cut at {cut}");
        }
        assert_eq!(last_boundary(&stream), stream.len());
        let start = message(&stream[..first]).unwrap();
        assert_eq!((start.name, start.payload), (&b"messageStart"[..], &b"{\"role\":\"assistant\"}"[..]));
        let failed = message(&stream[first..]).unwrap();
        assert_eq!((failed.kind, failed.name), (MessageKind::Exception, &b"throttlingException"[..]));
        let error =
            written(&[(":message-type", "error"), (":error-code", "x"), (":error-message", "words")], b"");
        let error = message(&error).unwrap();
        assert_eq!((error.kind, error.name, error.payload), (MessageKind::Error, &b"x"[..], &b"words"[..]));
    }

    #[test]
    fn any_wrong_byte_is_refused() {
        let sound = event("contentBlockDelta", "{\"delta\":{\"text\":\"hi\"}}");
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x40;
            assert!(message(&bytes).is_err(), "byte {at}");
        }
        assert!(message(&sound[..sound.len() - 1]).is_err());
        assert!(message(&[&sound[..], b"x"].concat()).is_err());
    }

    #[test]
    fn a_claim_of_two_gibibytes_is_refused_at_once() {
        let mut bytes = vec![0x80, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        assert_eq!(next_boundary(&bytes, 0), Some(bytes.len()), "it is not waited for");
        assert!(message(&bytes).is_err());
    }

    #[test]
    fn mutated_messages_never_panic() {
        let sound = [event("a", "{}"), event("b", "{\"x\":1}")].concat();
        let mut noise = Noise::new(0xe7e2_0001);
        for _ in 0..20_000 {
            let bytes = noise.mutate(&sound);
            let mut at = 0;
            while let Some(next) = next_boundary(&bytes, at) {
                assert!(next > at);
                let _ = message(&bytes[at..next]);
                at = next;
            }
        }
    }
}
