//! What of a request does not reach its backend.

use std::borrow::Cow;

/// Members that could not be carried to the other dialect, each by its name; the client is to hear of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Losses(Vec<Cow<'static, str>>);

/// Most losses that are kept by name.
const LOSSES_MAX: usize = 32;
/// Longest name of a loss, in bytes.
const LOSS_BYTES_MAX: usize = 64;

impl Losses {
    /// Notes a member that is dropped: once, and only names that a header can carry.
    pub fn note(&mut self, member: impl Into<Cow<'static, str>>) {
        let member = member.into();
        let fits = !member.is_empty()
            && member.len() <= LOSS_BYTES_MAX
            && member.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
        if fits && self.0.len() < LOSSES_MAX && !self.0.contains(&member) {
            self.0.push(member);
        }
    }

    /// Notes a member that is dropped, by its key as it was written.
    pub fn note_key(&mut self, key: &[u8]) {
        let name = key.strip_prefix(b"\"").and_then(|key| key.strip_suffix(b"\"")).unwrap_or(key);
        self.note(String::from_utf8_lossy(name).into_owned());
    }

    /// The members, in the order in which they were met.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// The members as the value of a header line; `None` if everything was carried.
    pub fn line(&self) -> Option<Box<str>> {
        if self.0.is_empty() { None } else { Some(self.0.join(", ").into()) }
    }

    /// Those that a request may be refused for, as words for its client; `None` if there is none. What agents send in every
    /// request, whatever the model, is not among them: they could not be served at all.
    pub fn refusable(&self) -> Option<String> {
        let named =
            self.iter().filter(|member| !OF_AGENTS.contains(member)).map(|member| format!("'{member}'"));
        let named: Vec<String> = named.collect();
        if named.is_empty() { None } else { Some(named.join(", ")) }
    }

    /// Whether everything was carried.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What Claude Code and Codex send in every request, by the names under which it is noted.
const OF_AGENTS: [&str; 18] = [
    "cache_control",
    "client_metadata",
    "context_management",
    "include",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "reasoning",
    "redacted_thinking",
    "system",
    "text.verbosity",
    "thinking",
    "thinking.display",
    "thinking.signature",
    "tools.tool_search",
    "tools.web_search",
    "user",
    "x-anthropic-billing-header",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agents_always_send_refuses_no_request() {
        let mut losses = Losses::default();
        OF_AGENTS.iter().for_each(|member| losses.note(*member));
        assert_eq!((losses.refusable(), losses.is_empty()), (None, false));
        losses.note("seed");
        losses.note_key(b"\"logit_bias\"");
        assert_eq!(losses.refusable().as_deref(), Some("'seed', 'logit_bias'"));
        assert_eq!(Losses::default().refusable(), None);
    }
}
