//! Members that only some models have (`additionalModelRequestFields`), by the name of the model: how much to think, `top_k`.

use crate::dialect::neutral::{Json, Losses, Reasoning, Request, Target, Text, claude};
use crate::dialect::number;

/// The members for one request.
#[derive(Default)]
pub(super) struct Fields<'a> {
    thinking: Option<Thinking>,
    /// OpenAI's open models: how much to think, in a word.
    effort: Option<&'static str>,
    top_k: Option<Json<'a>>,
    /// A bound on output that has to be said because there is a budget within it.
    pub(super) output_max: Option<u64>,
    /// One of Anthropic's models.
    is_anthropics: bool,
    /// One of those that take no choice of how to sample.
    refuses_sampling: bool,
}

/// How one of Anthropic's models is asked to think.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Thinking {
    Off,
    /// As it sees fit, with an effort.
    Adaptive(Option<&'static str>),
    Budget(u64),
}

impl<'a> Fields<'a> {
    /// The flags: a tool has to be called; the model has begun its turn without a thought.
    pub(super) fn of(
        request: &Request<'a>,
        target: &Target<'_>,
        (forces_tool, forbids_budget): (bool, bool),
        losses: &mut Losses,
    ) -> Self {
        let model = String::from_utf8_lossy(target.model).into_owned();
        let mut fields = Self::default();
        let is_anthropics = model.contains("anthropic") || model.contains("claude");
        fields.is_anthropics = is_anthropics;
        fields.refuses_sampling = is_anthropics && !claude::takes_sampling(&model);
        match &request.params.reasoning {
            None => {}
            // None of its models thinks where a tool is forced.
            Some(_) if is_anthropics && forces_tool => losses.note("reasoning"),
            Some(reasoning) if is_anthropics => {
                let most = request.params.output_max.filter(|most| *most > 0);
                let thinking = anthropics(reasoning, &model, most.unwrap_or(target.output_max_default));
                fields.thinking =
                    thinking.filter(|thinking| !forbids_budget || !matches!(thinking, Thinking::Budget(_)));
                match fields.thinking {
                    Some(Thinking::Budget(_)) => {
                        fields.output_max = Some(most.unwrap_or(target.output_max_default));
                    }
                    None => losses.note("reasoning"),
                    _ => {}
                }
            }
            Some(reasoning) if model.contains("gpt-oss") => {
                fields.effort = Some(word(reasoning).unwrap_or("medium"));
            }
            Some(_) => losses.note("reasoning"),
        }
        match request.params.top_k {
            Some(value) if is_anthropics && fields.takes_sampling() => fields.top_k = Some(value),
            Some(_) => losses.note("top_k"),
            None => {}
        }
        fields
    }

    /// Whether the client may choose how to sample: not where the model thinks.
    pub(super) fn takes_sampling(&self) -> bool {
        let thinks = matches!(self.thinking, Some(Thinking::Adaptive(_) | Thinking::Budget(_)));
        !thinks && !self.refuses_sampling
    }

    /// Whether it refuses `temperature` and `top_p` together.
    pub(super) fn takes_one_way_to_sample(&self) -> bool {
        self.is_anthropics
    }

    /// Appends them, if there are any.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let name = |name: &str, out: &mut Vec<u8>| {
            let opening: &[u8] =
                if out.len() == start { b",\"additionalModelRequestFields\":{\"" } else { b",\"" };
            out.extend_from_slice(opening);
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
        };
        match self.thinking {
            Some(Thinking::Off) => {
                name("thinking", out);
                out.extend_from_slice(b"{\"type\":\"disabled\"}");
            }
            Some(Thinking::Adaptive(effort)) => {
                name("thinking", out);
                out.extend_from_slice(b"{\"type\":\"adaptive\"}");
                if let Some(effort) = effort {
                    name("output_config", out);
                    out.extend_from_slice(b"{\"effort\":\"");
                    out.extend_from_slice(effort.as_bytes());
                    out.extend_from_slice(b"\"}");
                }
            }
            Some(Thinking::Budget(tokens)) => {
                name("thinking", out);
                out.extend_from_slice(b"{\"type\":\"enabled\",\"budget_tokens\":");
                number(out, tokens);
                out.push(b'}');
            }
            None => {}
        }
        if let Some(effort) = self.effort {
            name("reasoning_effort", out);
            Text::escaped(effort.as_bytes()).quote(out);
        }
        if let Some(value) = self.top_k {
            name("top_k", out);
            out.extend_from_slice(value);
        }
        if out.len() > start {
            out.push(b'}');
        }
    }
}

/// The least budget for thinking that the API takes, in tokens.
const BUDGET_MIN: u64 = 1024;

/// Models of before 2026 think by a budget of tokens, later ones as they see fit; each refuses the other's.
fn anthropics(reasoning: &Reasoning<'_>, model: &str, most: u64) -> Option<Thinking> {
    let word = word(reasoning);
    if *reasoning == Reasoning::Off || word == Some("none") {
        return Some(Thinking::Off);
    }
    if !claude::takes_budget(model) {
        return Some(Thinking::Adaptive(word));
    }
    let tokens = match (reasoning, word) {
        (Reasoning::Budget(tokens), _) => *tokens,
        (_, Some("low")) => 2 * 1024,
        (_, Some("high")) => 16 * 1024,
        (_, Some("max")) => 32 * 1024,
        _ => 8 * 1024,
    };
    // Half of the output is left for what is said.
    let tokens = if tokens < most { tokens } else { most / 2 }.max(BUDGET_MIN);
    (tokens < most).then_some(Thinking::Budget(tokens))
}

/// An amount of thinking in a word.
fn word(reasoning: &Reasoning<'_>) -> Option<&'static str> {
    match reasoning {
        Reasoning::Off => Some("none"),
        Reasoning::Adaptive => None,
        Reasoning::Budget(..=2048) => Some("low"),
        Reasoning::Budget(..=8192) => Some("medium"),
        Reasoning::Budget(_) => Some("high"),
        Reasoning::Effort(word) => match word.to_plain().as_deref() {
            Some("none") => Some("none"),
            Some("minimal" | "low") => Some("low"),
            Some("medium") => Some("medium"),
            Some("high") => Some("high"),
            Some("xhigh" | "max") => Some("max"),
            _ => None,
        },
    }
}
