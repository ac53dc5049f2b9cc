//! The words that give away the few events worth reading, all of an API in one pass.

use std::sync::LazyLock;

use aho_corasick::packed::Searcher;
use aho_corasick::{AhoCorasick, MatchKind};
use memchr::memmem::Finder;

use crate::units::Span;

/// A word that stands in almost no event. None is part of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Word {
    /// In every usage object of every dialect.
    Count,
    /// The end of a key that is a finish reason, with a string for a value.
    Finish,
    /// The end of a key that is an index, of a choice that is not the first or of a tool call.
    Index,
    Done,
    Error,
    /// Responses: the end of the name of the last event, and of few others. Ollama: the member of the last line.
    Last,
    MessageStop,
    /// Google's: why a prompt was blocked.
    Blocked,
    /// The end of a name that holds output, and the quote in front of it. No event is read for it.
    Text,
}

impl Word {
    /// How many there are.
    pub(super) const COUNT: usize = Word::Blocked as usize + 1;
}

/// The patterns of an API. Their first four bytes are what the search stops at: a finish reason is looked for by its
/// end, since every event has its beginning, before a null.
pub(super) type Patterns = &'static [(Word, &'static str)];

pub(super) const CHOICES: Patterns = &[
    (Word::Count, "_tokens\""),
    (Word::Finish, "n\":\""),
    (Word::Finish, "n\": \""),
    (Word::Finish, "n\" :"),
    (Word::Index, "x\":1"),
    (Word::Index, "x\": 1"),
    (Word::Done, "[DONE]"),
    (Word::Error, "error"),
];
pub(super) const RESPONSE: Patterns = &[
    (Word::Count, "_tokens\""),
    (Word::Last, ".completed"),
    (Word::Last, ".incomplete"),
    (Word::Last, ".failed"),
    (Word::Last, ".cancelled"),
    (Word::Error, "error"),
];
pub(super) const MESSAGE: Patterns = &[
    (Word::Count, "_tokens\""),
    (Word::Finish, "n\":\""),
    (Word::Finish, "n\": \""),
    (Word::Finish, "n\" :"),
    (Word::MessageStop, "message_stop"),
    (Word::Error, "error"),
];
/// A reason is looked for by its own end, as in the other APIs; this API's counts stand in every event.
pub(super) const CANDIDATES: Patterns = &[
    (Word::Count, "TokenCount\""),
    (Word::Finish, "n\":\""),
    (Word::Finish, "n\": \""),
    (Word::Finish, "n\" :"),
    (Word::Blocked, "blockReason"),
    (Word::Error, "error"),
];

pub(super) const LINES: Patterns = &[
    (Word::Last, "\"done\":true"),
    (Word::Last, "\"done\": true"),
    (Word::Last, "\"done\" :"),
    (Word::Error, "\"error\""),
];
/// Names that hold output, in all dialects but Responses, by their ends, which few other names have.
pub(super) const TEXT: Patterns = &[
    (Word::Text, "ontent\":\""),
    (Word::Text, "ontent\": \""),
    (Word::Text, "text\":\""),
    (Word::Text, "text\": \""),
    (Word::Text, "soning\":\""),
    (Word::Text, "soning\": \""),
    (Word::Text, "uments\":\""),
    (Word::Text, "uments\": \""),
    (Word::Text, "efusal\":\""),
    (Word::Text, "efusal\": \""),
    (Word::Text, "_json\":\""),
    (Word::Text, "_json\": \""),
    (Word::Text, "inking\":\""),
    (Word::Text, "inking\": \""),
    (Word::Text, "sponse\":\""),
];
/// In Responses.
pub(super) const TEXT_DELTA: Patterns = &[(Word::Text, "delta\":\""), (Word::Text, "delta\": \"")];

/// Searches for several words at once.
pub(super) struct Search {
    patterns: Patterns,
    engine: Engine,
}

enum Engine {
    /// 16 or 32 bytes at a time.
    Vector(Searcher),
    /// On processors without those instructions.
    Automaton(AhoCorasick),
}

impl Search {
    pub(super) fn new(patterns: Patterns) -> Self {
        let texts = patterns.iter().map(|(_, text)| text);
        let engine = match Searcher::new(texts.clone()) {
            Some(searcher) => Engine::Vector(searcher),
            None => Engine::Automaton(
                AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostFirst)
                    .build(texts)
                    .expect("a few short words make a small automaton"),
            ),
        };
        Self { patterns, engine }
    }

    /// Every word in `bytes`, in order.
    pub(super) fn find_iter(&self, bytes: &[u8]) -> impl Iterator<Item = (Word, Span)> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let found = self.find_from(bytes, from)?;
            from = found.1.end;
            Some(found)
        })
    }

    /// The first word in `bytes` from there on.
    pub(super) fn find_from(&self, bytes: &[u8], from: usize) -> Option<(Word, Span)> {
        let rest = aho_corasick::Span { start: from, end: bytes.len() };
        let found = match &self.engine {
            Engine::Vector(searcher) => searcher.find_in(bytes, rest),
            Engine::Automaton(automaton) => automaton.find(aho_corasick::Input::new(bytes).span(rest)),
        }?;
        Some((self.patterns[found.pattern().as_usize()].0, Span::new(found.start(), found.end())))
    }
}

/// What else is searched for, prepared once per process.
pub(super) struct Words {
    pub(super) sequence: Finder<'static>,
    /// The name of the index of a choice, or of a tool call.
    pub(super) index: Finder<'static>,
    pub(super) response_delta: Finder<'static>,
    pub(super) message_delta: Finder<'static>,
    pub(super) function_call: Finder<'static>,
    /// Names of delta members that hold output.
    pub(super) text: [Finder<'static>; 7],
    /// The same of a line of Ollama's.
    pub(super) line_text: [Finder<'static>; 4],
}

pub(super) static WORDS: LazyLock<Words> = LazyLock::new(|| Words {
    sequence: Finder::new("\"sequence_number\":"),
    index: Finder::new("\"index\":"),
    response_delta: Finder::new(".delta"),
    message_delta: Finder::new("content_block_delta"),
    function_call: Finder::new("\"functionCall\""),
    text: ["content", "text", "tool_calls", "reasoning_content", "reasoning", "function_call", "refusal"]
        .map(|name| Finder::new(&format!("\"{name}\"")).into_owned()),
    line_text: ["content", "response", "thinking", "tool_calls"]
        .map(|name| Finder::new(&format!("\"{name}\"")).into_owned()),
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_engines_find_every_word_at_every_place() {
        for patterns in [CHOICES, RESPONSE, MESSAGE, CANDIDATES, LINES] {
            let vector = Search::new(patterns);
            assert!(cfg!(not(target_arch = "x86_64")) || matches!(vector.engine, Engine::Vector(_)));
            let texts = patterns.iter().map(|(_, text)| text);
            let engine = AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(texts).unwrap();
            let automaton = Search { patterns, engine: Engine::Automaton(engine) };
            for &(word, text) in patterns {
                for before in 0..100 {
                    let bytes = format!("{}{text}{}{text}", "x".repeat(before), "y".repeat(before / 3));
                    let second = Span::new(bytes.len() - text.len(), bytes.len());
                    let expected = [(word, Span::new(before, before + text.len())), (word, second)];
                    for search in [&vector, &automaton] {
                        assert_eq!(search.find_iter(bytes.as_bytes()).collect::<Vec<_>>(), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn an_event_of_text_holds_no_word() {
        let event = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,\
                     \"delta\":{\"content\":\"hi\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n";
        assert_eq!(Search::new(CHOICES).find_iter(event.as_bytes()).count(), 0);
    }
}
