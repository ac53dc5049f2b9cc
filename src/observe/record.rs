//! One settled exchange, as the access log and the ledger see it.

use std::fmt;
use std::net::IpAddr;

use crate::error;
use crate::units::{BackendId, KeyId, ModelId, Nanos, ShardId};

/// The id of one exchange, shown to clients, backends and in logs: the client's own `x-request-id`, or 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    /// ASCII, filled up with zeros.
    text: [u8; REQUEST_ID_BYTES_MAX],
    length: u8,
}

/// The longest id of a client's that is kept. Chosen: ids of traces, accounts and jobs fit; a record has room for it.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

impl RequestId {
    /// The 32 digits of a number.
    pub fn made(number: u128) -> Self {
        let mut id = Self { text: [0; REQUEST_ID_BYTES_MAX], length: 32 };
        for (eight, shift) in id.text[..32].as_chunks_mut().0.iter_mut().zip([96, 64, 32, 0]) {
            *eight = hex((number >> shift) as u32);
        }
        id
    }

    /// What a client calls its request, if that can stand in a header line, a log and a document as it is: visible ASCII but
    /// for quotes, backslashes and brackets, of at most [`REQUEST_ID_BYTES_MAX`] bytes.
    pub fn given(text: &[u8]) -> Option<Self> {
        let is_plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"\\<>{}`".contains(byte);
        if text.is_empty() || text.len() > REQUEST_ID_BYTES_MAX || !text.iter().all(is_plain) {
            return None;
        }
        let mut id = Self { text: [0; REQUEST_ID_BYTES_MAX], length: text.len() as u8 };
        id.text[..text.len()].copy_from_slice(text);
        Some(id)
    }

    /// As it stands in a header line.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }
}

/// Eight digits at once: a nibble into each byte of a word, then all of them to their letters.
fn hex(word: u32) -> [u8; 8] {
    const LOW: u64 = u64::from_ne_bytes([1; 8]);
    let mut nibbles = u64::from(word);
    nibbles = (nibbles << 16 | nibbles) & 0x0000_ffff_0000_ffff;
    nibbles = (nibbles << 8 | nibbles) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles << 4 | nibbles) & 0x0f0f_0f0f_0f0f_0f0f;
    let is_letter = (nibbles + 6 * LOW) >> 4 & LOW;
    (nibbles + LOW * u64::from(b'0') + is_letter * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

impl fmt::Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(std::str::from_utf8(self.as_bytes()).unwrap_or_default())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "RequestId({self})")
    }
}

/// One settled exchange: fixed size, no heap, so that a shard hands it over by copy.
///
/// Token counts follow the GenAI conventions: input includes cached, output includes reasoning. They are zero
/// with `usage_known = false`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Record {
    /// When it began, that is when its head had been read whole: Unix milliseconds, as of the shard's last tick.
    pub at_unix_ms: u64,
    /// Its id.
    pub request_id: RequestId,
    /// Which shard served it.
    pub shard: ShardId,
    /// The generation of the plan that it was served by: what the ids below are rows of.
    pub plan: u64,
    /// Who called, unless the address is not known (a Unix socket).
    pub client: Option<IpAddr>,
    /// The API called: `chat`, `messages`, ...; a name of ours, never the client's text.
    pub api: &'static str,
    /// Whose key, once it is known.
    pub key: Option<KeyId>,
    /// Which model, once it is known: the one that was asked last, and that the tokens are counted for.
    pub model: Option<ModelId>,
    /// The model that the client asked for, if that one is its fallback.
    pub fallback_for: Option<ModelId>,
    /// The backend of the last attempt; `None` if no backend was called.
    pub backend: Option<BackendId>,
    /// Status sent, or that would have been sent had the client stayed (499).
    pub status: u16,
    /// What failed, if something did.
    pub fault: Option<error::FaultKind>,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// Backends tried.
    pub attempts: u8,
    /// Prompt tokens, cached ones included.
    pub input_tokens: u64,
    /// Prompt tokens that came from a cache of the backend.
    pub cached_tokens: u64,
    /// Prompt tokens that were written to a cache of the backend.
    pub cache_write_tokens: u64,
    /// Tokens of the response, reasoning included.
    pub output_tokens: u64,
    /// Tokens of the response spent on reasoning.
    pub reasoning_tokens: u64,
    /// Whether the token counts mean anything: reported by the backend, or estimated.
    pub usage_known: bool,
    /// Whether they are our estimate, not the backend's count.
    pub estimated: bool,
    /// Whether the response came from the response cache, or from another request in flight: it cost no tokens.
    pub from_cache: bool,
    /// Bytes read from the client: head and body, framing included; of a body that was refused, the head alone.
    pub request_bytes: u64,
    /// Bytes written to the client: head and body, framing included.
    pub response_bytes: u64,
    /// From the end of the request's head to the last byte of the response; reading the body is part of it.
    pub duration: Nanos,
    /// From the end of the request's head to the first content-bearing event; `None` if there was none.
    pub time_to_first_token: Option<Nanos>,
    /// From the end of the head until the last attempt's request was sent, less waits in the queue and between attempts.
    /// Reading the body, connecting and earlier attempts are part of it; what follows the sending is not.
    pub overhead: Nanos,
}

impl Record {
    /// `(duration - time to first token) / (output tokens - 1)`, the GenAI definition; `None` where it has no
    /// value: no first token, fewer than two tokens, or unknown or estimated counts.
    pub fn time_per_output_token(&self) -> Option<Nanos> {
        let first = self.time_to_first_token?;
        let counted = self.usage_known && !self.estimated && self.output_tokens > 1;
        counted.then(|| Nanos(self.duration.since(first).0 / (self.output_tokens - 1)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A streamed success: model 0, key 0, backend 0, 100 input and 11 output tokens in 1.1 s, first after 100 ms.
    pub(crate) fn sample() -> Record {
        Record {
            at_unix_ms: 1_790_000_000_123,
            request_id: RequestId::made(0x00ab_cdef),
            shard: ShardId::new(0),
            plan: 1,
            client: Some(IpAddr::from([192, 0, 2, 7])),
            api: "chat",
            key: Some(KeyId::new(0)),
            fallback_for: None,
            model: Some(ModelId::new(0)),
            backend: Some(BackendId::new(0)),
            status: 200,
            fault: None,
            stream: true,
            attempts: 1,
            input_tokens: 100,
            cached_tokens: 64,
            cache_write_tokens: 3,
            output_tokens: 11,
            reasoning_tokens: 5,
            usage_known: true,
            estimated: false,
            from_cache: false,
            request_bytes: 512,
            response_bytes: 4096,
            duration: Nanos(1_100_000_000),
            time_to_first_token: Some(Nanos(100_000_000)),
            overhead: Nanos(20_000),
        }
    }

    #[test]
    fn a_request_id_is_32_lower_case_hex_digits() {
        for id in [0, 0xAB, u128::MAX, 1 << 127] {
            assert_eq!(RequestId::made(id).as_bytes(), format!("{id:032x}").as_bytes());
        }
        assert_eq!(RequestId::made(0xAB).to_string(), "000000000000000000000000000000ab");
    }

    #[test]
    fn a_given_id_is_kept_if_it_is_plain() {
        let longest = "x".repeat(REQUEST_ID_BYTES_MAX);
        for id in ["a", "req_01-Az.9:/+=@", "550e8400-e29b-41d4-a716-446655440000", &longest] {
            assert_eq!(RequestId::given(id.as_bytes()).map(|id| id.to_string()).as_deref(), Some(id));
        }
        for id in [
            "",
            "a b",
            "a\"b",
            "a\\b",
            "{\"a\":1}",
            "<x>",
            "\x1b[31mred",
            "\u{fc}",
            "a\tb",
            "`id`",
            &(longest + "x"),
        ] {
            assert_eq!(RequestId::given(id.as_bytes()), None, "{id}");
        }
    }

    #[test]
    fn time_per_output_token_follows_its_definition() {
        assert_eq!(sample().time_per_output_token(), Some(Nanos(100_000_000)));
    }

    #[test]
    fn time_per_output_token_has_no_value_without_two_counted_tokens() {
        for record in [
            Record { output_tokens: 1, ..sample() },
            Record { output_tokens: 0, ..sample() },
            Record { usage_known: false, ..sample() },
            Record { estimated: true, ..sample() },
            Record { time_to_first_token: None, ..sample() },
        ] {
            assert_eq!(record.time_per_output_token(), None);
        }
    }
}
