//! How many tokens was it?
//!
//! Backends report counts in two families and a dozen variants; here they become one normal form in which every count
//! includes its parts. Nothing is estimated: what was not reported is zero and not `seen`.

use std::sync::LazyLock;

use crate::wire::json;

/// Token counts of one exchange.
///
/// Invariants: `cached + cache_write <= input`, `reasoning <= output`, each at most [`COUNT_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// All input, cached included.
    pub input: u64,
    /// The part of the input read from a cache.
    pub cached: u64,
    /// The part of the input written to a cache.
    pub cache_write: u64,
    /// All output, reasoning included.
    pub output: u64,
    /// The part of the output that was reasoning.
    pub reasoning: u64,
    /// Whether a backend reported anything.
    pub seen: bool,
    /// Whether a count was negative, fractional, absurd or larger than its whole, and was dropped or clamped.
    pub doubtful: bool,
    /// As reported, so that later reports can overwrite single counts.
    parts: Parts,
}

/// A count above this is not believed. Far above any context window, far below where sums could overflow.
pub const COUNT_MAX: u64 = 1 << 40;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Parts {
    input: Option<u64>,
    cached: Option<u64>,
    cache_write: Option<u64>,
    output: Option<u64>,
    reasoning: Option<u64>,
    total: Option<u64>,
    /// Google's way: thoughts, which `output` leaves out, and what its tools read, which `input` does.
    beside_output: Option<u64>,
    beside_input: Option<u64>,
    /// Anthropic's way: `input` leaves out what was read from or written to a cache, and a later report overwrites
    /// only the counts it names.
    exclusive: bool,
    doubtful: bool,
}

impl Usage {
    /// Reads the usage object at the start of `bytes`; what follows it is not looked at. `None` if it names no count.
    ///
    /// OpenAI's counts (chat, completions, embeddings, Responses and its copies) include their parts. An object with
    /// `input_tokens` but neither a total nor input details is Anthropic's, whose parts are added up.
    ///
    /// # Errors
    /// It is no sound object; at the end of `bytes` if it is cut off.
    pub fn read(bytes: &[u8]) -> Result<Option<Usage>, json::BadJson> {
        let mut parts = Parts::default();
        let (mut anthropic_names, mut openai_names) = (false, false);
        for member in json::leading_members(bytes) {
            let member = member?;
            let (key, value) = (member.key.of(bytes), member.value.of(bytes));
            match name(key) {
                b"prompt_tokens" => (parts.input, openai_names) = (parts.count(value), true),
                b"completion_tokens" => (parts.output, openai_names) = (parts.count(value), true),
                b"total_tokens" => (parts.total, openai_names) = (parts.count(value), true),
                // Ollama's, which stand in the response itself.
                b"prompt_eval_count" => (parts.input, openai_names) = (parts.count(value), true),
                b"eval_count" => (parts.output, openai_names) = (parts.count(value), true),
                b"input_tokens" => (parts.input, anthropic_names) = (parts.count(value), true),
                b"output_tokens" => (parts.output, anthropic_names) = (parts.count(value), true),
                // Bedrock's, whose input leaves out the cache, too.
                b"inputTokens" => (parts.input, anthropic_names) = (parts.count(value), true),
                b"outputTokens" => (parts.output, anthropic_names) = (parts.count(value), true),
                b"cacheReadInputTokens" => parts.cached = parts.count(value),
                b"cacheWriteInputTokens" => parts.cache_write = parts.count(value),
                b"cached_tokens" | b"prompt_cache_hit_tokens" | b"cache_read_input_tokens" => {
                    parts.cached = parts.count(value).max(parts.cached);
                }
                b"cache_creation_input_tokens" => parts.cache_write = parts.count(value),
                b"promptTokenCount" => (parts.input, openai_names) = (parts.count(value), true),
                b"candidatesTokenCount" => (parts.output, openai_names) = (parts.count(value), true),
                b"totalTokenCount" => (parts.total, openai_names) = (parts.count(value), true),
                b"cachedContentTokenCount" => parts.cached = parts.count(value),
                b"thoughtsTokenCount" => parts.beside_output = parts.count(value),
                b"toolUsePromptTokenCount" => parts.beside_input = parts.count(value),
                b"prompt_tokens_details" => parts.input_details(value),
                b"input_tokens_details" => {
                    openai_names = true;
                    parts.input_details(value);
                }
                b"completion_tokens_details" | b"output_tokens_details" => parts.output_details(value),
                _ => {}
            }
        }
        parts.exclusive = anthropic_names && !openai_names;
        parts.add_beside();
        let counts = parts.input.or(parts.output).or(parts.total);
        Ok(counts.map(|_| parts.normal()))
    }

    /// Of counts that include their parts; `None` for one that was not reported.
    pub(super) fn of_counts(input: Option<u64>, output: Option<u64>) -> Usage {
        let within = |count: Option<u64>| count.map(|count| count.min(COUNT_MAX));
        let doubtful = input.max(output) > Some(COUNT_MAX);
        Parts { input: within(input), output: within(output), doubtful, ..Parts::default() }.normal()
    }

    /// Takes in a later report: it replaces this one, except that Anthropic's overwrites only what it names.
    pub fn merge(&mut self, newer: Usage) {
        let (old, new) = (self.parts, newer.parts);
        *self = match new.exclusive {
            false => newer,
            true => Parts {
                input: new.input.or(old.input),
                cached: new.cached.or(old.cached),
                cache_write: new.cache_write.or(old.cache_write),
                output: new.output.or(old.output),
                reasoning: new.reasoning.or(old.reasoning),
                doubtful: new.doubtful || old.doubtful,
                ..new
            }
            .normal(),
        };
    }
}

impl Parts {
    /// A count, clamped to [`COUNT_MAX`]; `None` for null and for what is no count.
    fn count(&mut self, value: &[u8]) -> Option<u64> {
        if value == b"null" {
            return None;
        }
        let count = json::unsigned(value);
        self.doubtful |= count.is_none_or(|count| count > COUNT_MAX);
        count.map(|count| count.min(COUNT_MAX))
    }

    /// Adds what Google counts beside the input and the output. Early events leave the output out while the total is not of it.
    fn add_beside(&mut self) {
        if let Some(thoughts) = self.beside_output {
            self.output = Some(self.output.unwrap_or(0).saturating_add(thoughts).min(COUNT_MAX));
            self.reasoning = Some(thoughts);
        }
        if let Some(read) = self.beside_input {
            self.input = Some(self.input.unwrap_or(0).saturating_add(read).min(COUNT_MAX));
        }
    }

    fn input_details(&mut self, object: &[u8]) {
        for member in details(object) {
            match name(member.key.of(object)) {
                b"cached_tokens" => self.cached = self.count(member.value.of(object)).max(self.cached),
                b"cache_write_tokens" => self.cache_write = self.count(member.value.of(object)),
                _ => {}
            }
        }
    }

    fn output_details(&mut self, object: &[u8]) {
        for member in details(object) {
            if matches!(name(member.key.of(object)), b"reasoning_tokens" | b"thinking_tokens") {
                self.reasoning = self.count(member.value.of(object));
            }
        }
    }

    fn normal(self) -> Usage {
        let (cached, cache_write) = (self.cached.unwrap_or(0), self.cache_write.unwrap_or(0));
        let reasoning = self.reasoning.unwrap_or(0);
        let input = match (self.input, self.total) {
            (Some(input), _) if self.exclusive => (input + cached + cache_write).min(COUNT_MAX),
            (Some(input), _) => input,
            (None, Some(total)) => total.saturating_sub(self.output.unwrap_or(0)),
            (None, None) => cached + cache_write,
        };
        let output = match (self.output, self.total) {
            (Some(output), _) => output,
            (None, Some(total)) => total.saturating_sub(input),
            (None, None) => 0,
        };
        let within = cached.saturating_add(cache_write) <= input && reasoning <= output;
        let input = input.min(COUNT_MAX);
        Usage {
            input,
            cached: cached.min(input),
            cache_write: cache_write.min(input - cached.min(input)),
            output,
            reasoning: reasoning.min(output),
            seen: true,
            doubtful: self.doubtful || !within,
            parts: self,
        }
    }
}

/// The text between the quotes. A count whose name is written with escapes is not one a backend writes.
fn name(key: &[u8]) -> &[u8] {
    key.get(1..key.len().saturating_sub(1)).unwrap_or_default()
}

/// The members of a details object up to the first that cannot be read; none for null.
fn details(object: &[u8]) -> impl Iterator<Item = json::Member> {
    json::members(object).map_while(Result::ok)
}

/// The key of the member that holds the counts.
static USAGE: LazyLock<json::Finder> = LazyLock::new(|| json::Finder::new("usage"));
/// The same in Google's API.
static USAGE_METADATA: LazyLock<json::Finder> = LazyLock::new(|| json::Finder::new("usageMetadata"));
/// Both as they stand in JSON, for the beginning of one at the end of a block.
const KEYS: [&[u8]; 2] = [b"\"usage\"", b"\"usageMetadata\""];

/// Objects of that name that are tried, from the last on. Chosen, not measured: more are a text made to cost time.
const TRIES_MAX: usize = 8;

/// The last usage object in `bytes`, wherever it is nested, and where a later one begins that is cut off.
pub(super) fn last_in(bytes: &[u8]) -> (Option<Usage>, Option<usize>) {
    match last_of(bytes, &USAGE) {
        (None, cut) => {
            let (usage, other) = last_of(bytes, &USAGE_METADATA);
            (usage, cut.into_iter().chain(other).min())
        }
        found => found,
    }
}

fn last_of(bytes: &[u8], finder: &json::Finder) -> (Option<Usage>, Option<usize>) {
    let (mut end, mut cut) = (bytes.len(), None);
    // Two looks each: at the object, and at its key once the object is cut away.
    for _ in 0..2 * TRIES_MAX {
        let cut_at = match json::find_object(&bytes[..end], finder) {
            json::ObjectSearch::Absent => break,
            json::ObjectSearch::Incomplete(key) => key,
            json::ObjectSearch::Opens { key, object } => match Usage::read(&bytes[object..end]) {
                Ok(Some(usage)) => return (Some(usage), cut),
                Ok(None) => {
                    end = object;
                    continue;
                }
                Err(bad) if bad.at == end - object => key,
                Err(_) => break,
            },
        };
        // Only the end of all bytes can cut; what ends where another key begins is no object.
        cut = cut.or((end == bytes.len()).then_some(cut_at));
        end = cut_at;
    }
    (None, cut)
}

/// Finds the usage in a JSON body that passes by in blocks, cut anywhere. The last object wins.
///
/// Holds bytes only while a usage object is incomplete, at most [`CARRY_BYTES_MAX`]; a body that arrives in one block
/// costs one search and no allocation.
#[derive(Default, Debug)]
pub struct BodyMeter {
    usage: Usage,
    /// From a key (or the beginning of one) on, while its object is incomplete.
    carry: Vec<u8>,
}

/// Longest usage object that is put together from several blocks; a longer one is not read. Chosen, not measured: those of today are
/// below 1 KiB.
pub const CARRY_BYTES_MAX: usize = 8 * 1024;

impl BodyMeter {
    /// Takes in the next block of the body.
    pub fn block(&mut self, block: &[u8]) {
        let mut carry = std::mem::take(&mut self.carry);
        if !carry.is_empty() {
            let taken = block.len().min(CARRY_BYTES_MAX - carry.len());
            carry.extend_from_slice(&block[..taken]);
            let open = self.search(&carry);
            if taken == block.len() {
                // Still at the front of a full carry: too long, given up.
                if let Some(start) = open.filter(|&start| start > 0 || carry.len() < CARRY_BYTES_MAX) {
                    carry.drain(..start);
                    self.carry = carry;
                }
                return;
            }
        }
        // Without a carry, or with one that ended inside this block: the block by itself. An object that was read
        // above is read again, which changes nothing.
        if let Some(start) = self.search(block)
            && block.len() - start < CARRY_BYTES_MAX
        {
            self.carry.extend_from_slice(&block[start..]);
        }
    }

    /// Reads what is complete; returns where something incomplete starts: a key, with the backslashes before it, which
    /// say whether it is one.
    fn search(&mut self, bytes: &[u8]) -> Option<usize> {
        let (usage, cut) = last_in(bytes);
        if let Some(usage) = usage {
            self.usage.merge(usage);
        }
        let start = cut.unwrap_or_else(|| {
            let first = bytes.len().saturating_sub(KEYS[1].len() - 1);
            (first..bytes.len()) // few of them are quotes
                .find(|&start| {
                    bytes[start] == b'"' && KEYS.iter().any(|key| key.starts_with(&bytes[start..]))
                })
                .unwrap_or(bytes.len())
        });
        let escapes = bytes[..start].iter().rev().take_while(|&&byte| byte == b'\\').count();
        Some(start - escapes).filter(|&start| start < bytes.len())
    }

    /// What was reported so far.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }
}

#[cfg(test)]
mod tests;
