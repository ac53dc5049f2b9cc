//! What of a request decides which backend has its beginning in the cache: the text of its conversation, and its session.

use super::balance::mix;
use super::prefix::Chain;
use crate::dialect::estimate::Rates;
use crate::dialect::prompt::{self, Piece};
use crate::dialect::request::Peek;
use crate::wire::fields;

/// One prompt, hashed.
#[derive(Debug, Default)]
pub struct Conversation {
    chain: Chain,
    /// By the length of what was hashed.
    tokens: u64,
    /// Stays the same within a conversation, where the client says what belongs to it.
    session: Option<u64>,
}

/// The request that a conversation is read from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Of `body`.
    pub peek: &'a Peek,
    /// The client's.
    pub body: &'a [u8],
    /// The pool serves several models, each by a name that the client chose: what one has cached is of no use to another.
    pub is_pattern: bool,
    /// How tokens are estimated.
    pub rates: Rates,
    /// What a header line calls the session, if one does.
    pub session: Option<&'a [u8]>,
}

/// The header lines that name a session, in lower case; an earlier one goes first.
#[derive(Clone, Debug, Default)]
pub struct SessionHeaders(Box<[Box<[u8]>]>);

impl SessionHeaders {
    /// These names, in this order.
    pub fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.to_ascii_lowercase().into_bytes().into()).collect())
    }

    /// What the lines of a head call the session. Cost: one pass over the lines.
    pub fn find<'a>(&self, lines: &'a [u8]) -> Option<&'a [u8]> {
        let named = fields::lines(lines).filter(|line| !line.value.is_empty()).filter_map(|line| {
            let place = self.0.iter().position(|name| line.name.eq_ignore_ascii_case(name))?;
            Some((place, line.value))
        });
        named.min_by_key(|(place, _)| *place).map(|(_, value)| value)
    }
}

impl Conversation {
    /// Hashes a prompt, with a chain that may have been used before.
    pub fn read(mut chain: Chain, source: &Source<'_>) -> Self {
        let Source { peek, body, rates, .. } = *source;
        let name = if source.is_pattern { word(peek.model.of(body)) } else { 0 };
        let seed = word(peek.cache_salt.of(body)) ^ name.rotate_left(32);
        chain.restart(seed);
        let (mut bytes, mut media) = (0, 0);
        prompt::pieces(peek, body, |piece| match piece {
            Piece::Text(text) => {
                bytes += text.len() as u64;
                chain.push(text);
            }
            Piece::Media(content) => {
                media += 1;
                chain.push_digest(content);
            }
        });
        let tokens = bytes / rates.bytes_per_token.max(1) + media * rates.image_tokens;
        let key = peek.cache_key.of(body);
        let session = Some(key).filter(|key| !key.is_empty()).or(source.session);
        // Odd, as every key of the table is, and apart from the blocks of text by its seed.
        let session = session.map(|key| word(key) ^ seed.rotate_left(17) | 1);
        Self { chain, tokens, session }
    }

    /// The chain, for another conversation.
    pub fn into_chain(self) -> Chain {
        self.chain
    }

    /// Its blocks, in order.
    pub fn blocks(&self) -> &[u64] {
        self.chain.blocks()
    }

    /// Tokens of the prompt by estimate.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// What its session is known by in the table of prompts, where the client names it.
    pub fn session(&self) -> Option<u64> {
        self.session
    }

    /// The same word for requests that belong together: the client's own, or the first block that no member has (the best
    /// match ends after `matched` blocks), so that siblings meet; `random` for a prompt that is too short to have one.
    pub fn affinity(&self, matched: usize, random: u64) -> u64 {
        let blocks = self.blocks();
        self.session.or(blocks.get(matched).or(blocks.last()).copied()).unwrap_or(random)
    }

    /// The same word for a whole conversation.
    pub fn word(&self, random: u64) -> u64 {
        let blocks = self.blocks();
        self.session.or(blocks.get(CONVERSATION_BLOCK).or(blocks.last()).copied()).unwrap_or(random)
    }
}

/// A draw that is the same for all requests of a session, `random` for a request without one.
pub fn draw(peek: &Peek, body: &[u8], session: Option<&[u8]>, random: u64) -> u32 {
    let key = peek.cache_key.of(body);
    let session = Some(key).filter(|key| !key.is_empty()).or(session);
    (session.map_or(random, |key| mix(word(key))) >> 32) as u32
}

/// A word for a client's own words; zero for none.
fn word(words: &[u8]) -> u64 {
    words.iter().fold(0, |hash: u64, byte| {
        (hash.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x517c_c1b7_2722_0a95)
    })
}

/// The block that stands for a conversation: behind the start of a system prompt that others share. Chosen, not measured.
const CONVERSATION_BLOCK: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Api;
    use crate::dialect::request;

    fn read(body: &str, session: Option<&[u8]>) -> Conversation {
        let peek = request::peek(Api::Chat, body.as_bytes()).unwrap();
        let rates = Rates { bytes_per_token: 4, image_tokens: 1_000 };
        let source = Source { peek: &peek, body: body.as_bytes(), is_pattern: false, rates, session };
        Conversation::read(Chain::default(), &source)
    }

    fn chat(text: &str, more: &str) -> String {
        format!(r#"{{"model":"m",{more}"messages":[{{"role":"user","content":"{text}"}}]}}"#)
    }

    #[test]
    fn the_first_of_the_session_headers_counts_whatever_their_case_and_order() {
        let headers = SessionHeaders::new(&["X-Agent-Session".to_owned(), "session-id".to_owned()]);
        let lines = b"Session-Id: one\r\nx-other: 1\r\nX-AGENT-session: two\r\n";
        assert_eq!(headers.find(lines), Some(&b"two"[..]));
        let empty = b"session-ID: one\r\nx-agent-session:\r\n";
        assert_eq!(headers.find(empty), Some(&b"one"[..]), "an empty one is none");
        assert_eq!(headers.find(b"session: one\r\n"), None);
        assert_eq!(SessionHeaders::default().find(lines), None);
    }

    #[test]
    fn a_session_is_the_same_key_in_each_turn_and_the_clients_cache_key_goes_first() {
        let (short, long) = ("a".repeat(600), "b".repeat(900));
        let one = read(&chat(&short, ""), Some(b"s1"));
        assert_eq!(one.session(), read(&chat(&long, ""), Some(b"s1")).session());
        assert_ne!(one.session(), read(&chat(&short, ""), Some(b"s2")).session());
        assert_eq!(read(&chat(&short, ""), None).session(), None);
        let keyed = chat(&short, r#""prompt_cache_key":"k","#);
        assert_eq!(read(&keyed, None).session(), read(&keyed, Some(b"s1")).session());
        let salted = chat(&short, r#""cache_salt":"tenant","#);
        assert_ne!(
            one.session(),
            read(&salted, Some(b"s1")).session(),
            "what shares no cache shares no session"
        );
        assert_eq!(one.session().map(|key| key & 1), Some(1), "a table takes odd keys only");
    }

    #[test]
    fn a_session_decides_near_ties_before_text_does() {
        let text = "c".repeat(2_000);
        let (with, without) = (read(&chat(&text, ""), Some(b"s1")), read(&chat(&text, ""), None));
        assert_eq!((with.affinity(2, 9), with.word(9)), (with.session().unwrap(), with.session().unwrap()));
        assert_eq!(without.affinity(2, 9), without.blocks()[2]);
        assert_eq!(read(&chat("hi", ""), None).affinity(0, 9), 9, "too short to have a block");
    }
}
