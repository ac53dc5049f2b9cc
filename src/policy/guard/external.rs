//! Guards in another process: what they are sent, and what their responses mean.
//!
//! Three forms. A *webhook* gets a JSON document of our own:
//!
//! ```text
//! {"version":1,"guard":"NAME","request_id":"..","model":"..","key":"..","texts":[{"where":"input","text":".."}]}
//! ```
//!
//! and responds `{"verdict":"allow"}` or `{"verdict":"refuse","reason":".."}`. *Moderations* are OpenAI's: `flagged` of any result
//! refuses. A *judge* is a model that is asked by chat completions, and whose response begins with one of two words.
//!
//! A response that is none of these, or says two things, is a failure and never a verdict.

use crate::dialect::texts::{self, Located, Place};
use crate::units::Span;
use crate::wire::json;

/// The form in which a guard is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Form {
    /// Our own document.
    Webhook,
    /// OpenAI's moderations.
    Moderations {
        /// The model that is asked for, if one is.
        model: Option<Box<str>>,
    },
    /// Chat completions.
    Judge {
        /// The model.
        model: Box<str>,
        /// What it is asked; `{text}` stands for the texts.
        prompt: Box<str>,
        /// The beginning of a response that allows.
        allow: Box<str>,
        /// The beginning of a response that refuses.
        refuse: Box<str>,
    },
}

/// Which request a guard is asked about.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The name of the guard.
    pub guard: &'a str,
    /// The request's id.
    pub request_id: &'a str,
    /// The model that it is for.
    pub model: &'a str,
    /// The name of its key; empty for none.
    pub key: &'a str,
}

/// What a guard says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The request is refused.
    pub refuses: bool,
    /// Why, for people.
    pub reason: Option<Box<str>>,
}

/// The texts of a request that lie at one of `places`, each the inside of a JSON string; `None` if they are too long.
pub fn texts(body: &[u8], places: &[Place]) -> Option<Vec<(Place, Span)>> {
    found(body, places, texts::request)
}

/// The same for a whole response.
pub fn response_texts(body: &[u8], places: &[Place]) -> Option<Vec<(Place, Span)>> {
    found(body, places, texts::body)
}

fn found(
    body: &[u8],
    places: &[Place],
    find: fn(&[u8], &mut dyn FnMut(Located)),
) -> Option<Vec<(Place, Span)>> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    find(body, &mut |located| {
        if let Located::Whole { place, inside } | Located::Piece { place, inside, .. } = located
            && places.contains(&place)
        {
            bytes += inside.len();
            found.push((place, inside));
        }
    });
    (bytes <= TEXT_BYTES_MAX).then_some(found)
}

impl Form {
    /// The path of a guard that names none.
    pub const fn path(&self) -> &'static str {
        match self {
            Self::Webhook => "/",
            Self::Moderations { .. } => "/v1/moderations",
            Self::Judge { .. } => "/v1/chat/completions",
        }
    }

    /// Whether the guard is told the model and the key, so that its verdict may depend on them.
    pub const fn names_caller(&self) -> bool {
        matches!(self, Self::Webhook)
    }

    /// Appends what the guard is sent. `body`: the request that the texts lie in.
    pub fn encode(&self, about: &About<'_>, body: &[u8], texts: &[(Place, Span)], out: &mut Vec<u8>) {
        match self {
            Self::Webhook => webhook(about, body, texts, out),
            Self::Moderations { model } => {
                out.extend_from_slice(b"{");
                if let Some(model) = model {
                    out.extend_from_slice(b"\"model\":");
                    json::quote(out, model);
                    out.push(b',');
                }
                out.extend_from_slice(b"\"input\":[");
                for (index, (_, inside)) in texts.iter().enumerate() {
                    out.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
                    out.extend_from_slice(inside.of(body));
                    out.push(b'"');
                }
                out.extend_from_slice(b"]}");
            }
            Self::Judge { model, prompt, .. } => {
                out.extend_from_slice(b"{\"model\":");
                json::quote(out, model);
                out.extend_from_slice(
                    b",\"temperature\":0,\"max_tokens\":64,\"messages\":[{\"role\":\"user\",\"content\":\"",
                );
                let (before, after) = prompt.split_once("{text}").unwrap_or((prompt, ""));
                json::escape(out, before);
                for (index, (_, inside)) in texts.iter().enumerate() {
                    out.extend_from_slice(if index == 0 { b"" } else { b"\\n\\n" });
                    out.extend_from_slice(inside.of(body));
                }
                json::escape(out, after);
                out.extend_from_slice(b"\"}]}");
            }
        }
    }

    /// What a response with status 200 means.
    ///
    /// # Errors
    /// It is none that this form has.
    pub fn verdict(&self, body: &[u8]) -> Result<Verdict, &'static str> {
        match self {
            Self::Webhook => {
                let [verdict, reason] = members(body, ["verdict", "reason"])?;
                let refuses = match verdict.map(|raw| raw.to_vec()).as_deref() {
                    Some(br#""allow""#) => false,
                    Some(br#""refuse""#) => true,
                    _ => return Err("its verdict is neither \"allow\" nor \"refuse\""),
                };
                let reason = reason.and_then(json::string).map(|text| shortened(&text));
                Ok(Verdict { refuses, reason })
            }
            Self::Moderations { .. } => moderation(body),
            Self::Judge { allow, refuse, .. } => {
                let said = judged(body).ok_or("it is no chat completion with a text")?;
                let said = said.trim_start();
                let begins = |word: &str| {
                    let front = said.get(..word.len());
                    front.is_some_and(|front| front.eq_ignore_ascii_case(word))
                };
                // The whole word: "allowed nothing" does not allow.
                let allows = begins(allow)
                    && !(allow.ends_with(is_of_word) && said[allow.len()..].starts_with(is_of_word));
                match (allows, begins(refuse)) {
                    (true, false) => Ok(Verdict { refuses: false, reason: None }),
                    (false, true) => Ok(Verdict { refuses: true, reason: Some(shortened(said)) }),
                    // "unsafe" and "un" both begin it: the longer word was meant.
                    (true, true) => Ok(Verdict { refuses: refuse.len() >= allow.len(), reason: None }),
                    (false, false) => Err("it begins with neither of its two words"),
                }
            }
        }
    }
}

fn is_of_word(char: char) -> bool {
    char.is_alphanumeric() || matches!(char, '_' | '-' | '\'')
}

fn webhook(about: &About<'_>, body: &[u8], texts: &[(Place, Span)], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"version\":1");
    let About { guard, request_id, model, key } = *about;
    for (name, value) in [("guard", guard), ("request_id", request_id), ("model", model), ("key", key)] {
        out.push(b',');
        json::quote(out, name);
        out.push(b':');
        json::quote(out, value);
    }
    out.extend_from_slice(b",\"texts\":[");
    for (index, (place, inside)) in texts.iter().enumerate() {
        let name = Place::ALL.iter().find(|row| row.1 == *place).map_or("", |row| row.0);
        out.extend_from_slice(if index == 0 { b"" } else { b"," });
        out.extend_from_slice(format!("{{\"where\":\"{name}\",\"text\":\"").as_bytes());
        out.extend_from_slice(inside.of(body));
        out.extend_from_slice(b"\"}");
    }
    out.extend_from_slice(b"]}");
}

/// The values of these members of an object, each of which may be there once.
fn members<'a, const N: usize>(
    body: &'a [u8],
    names: [&str; N],
) -> Result<[Option<&'a [u8]>; N], &'static str> {
    let mut values = [None; N];
    for member in json::members(body) {
        let member = member.map_err(|_| "it is no JSON object")?;
        for (value, name) in values.iter_mut().zip(names) {
            if json::key_is(member.key.of(body), name) && value.replace(member.value.of(body)).is_some() {
                return Err("it says the same thing twice");
            }
        }
    }
    Ok(values)
}

fn moderation(body: &[u8]) -> Result<Verdict, &'static str> {
    let [results] = members(body, ["results"])?;
    let results = results.ok_or("it has no results")?;
    let (mut refuses, mut count, mut reasons) = (false, 0, Vec::new());
    for element in json::elements(results) {
        let (span, _) = element.map_err(|_| "its results are no list")?;
        let [flagged, categories] = members(span.of(results), ["flagged", "categories"])?;
        count += 1;
        match flagged {
            Some(b"true") => refuses = true,
            Some(b"false") => continue,
            _ => return Err("a result says neither that it is flagged nor that it is not"),
        }
        for member in json::members(categories.unwrap_or(b"{}")).map_while(Result::ok) {
            let raw = categories.unwrap_or_default();
            if let (Some(name), b"true") = (json::string(member.key.of(raw)), member.value.of(raw)) {
                reasons.push(name.into_owned());
            }
        }
    }
    if count == 0 {
        return Err("it has no results");
    }
    let reason = (!reasons.is_empty()).then(|| shortened(&reasons.join(", ")));
    Ok(Verdict { refuses, reason })
}

/// The text of a chat completion.
fn judged(body: &[u8]) -> Option<String> {
    let [choices] = members(body, ["choices"]).ok()?;
    let choices = choices?;
    let (first, _) = json::elements(choices).next()?.ok()?;
    let [message] = members(first.of(choices), ["message"]).ok()?;
    let [content] = members(message?, ["content"]).ok()?;
    Some(json::string(content?)?.into_owned())
}

fn shortened(text: &str) -> Box<str> {
    text.chars().filter(|char| !char.is_control()).take(REASON_CHARS_MAX).collect::<String>().into()
}

/// Texts of one request that are sent to a guard; with more it cannot be asked.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Of a reason that clients are shown.
const REASON_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: About<'_> = About { guard: "g", request_id: "r", model: "m\"", key: "k" };
    const BODY: &[u8] = br#"{"model":"m","messages":[{"role":"system","content":"be \"nice\""},{"role":"user","content":"hi\nthere"}]}"#;

    fn judge() -> Form {
        let prompt = "Is it safe?\n{text}\nsafe or unsafe".into();
        Form::Judge { model: "guard".into(), prompt, allow: "safe".into(), refuse: "unsafe".into() }
    }

    fn words(allow: &str, refuse: &str) -> Form {
        let (model, prompt) = ("guard".into(), "{text}".into());
        Form::Judge { model, prompt, allow: allow.into(), refuse: refuse.into() }
    }

    fn sent(form: &Form, places: &[Place]) -> serde_json::Value {
        let (mut out, texts) = (Vec::new(), texts(BODY, places).expect("short texts"));
        form.encode(&ABOUT, BODY, &texts, &mut out);
        serde_json::from_slice(&out).expect("JSON")
    }

    #[test]
    fn each_form_is_json_with_the_texts_as_they_were_said() {
        let all = [Place::System, Place::Input];
        let webhook = sent(&Form::Webhook, &all);
        assert_eq!((&webhook["model"], &webhook["texts"][0]["where"]), (&"m\"".into(), &"system".into()));
        assert_eq!(webhook["texts"][0]["text"], "be \"nice\"");
        assert_eq!(webhook["texts"][1]["text"], "hi\nthere");
        assert_eq!(sent(&Form::Webhook, &all[1..])["texts"].as_array().map(Vec::len), Some(1));
        let moderations = sent(&Form::Moderations { model: Some("omni".into()) }, &all);
        assert_eq!((&moderations["model"], &moderations["input"][1]), (&"omni".into(), &"hi\nthere".into()));
        let asked = &sent(&judge(), &all)["messages"][0]["content"];
        assert_eq!(asked, "Is it safe?\nbe \"nice\"\n\nhi\nthere\nsafe or unsafe");
    }

    #[test]
    fn a_response_is_a_verdict_or_a_failure() {
        let moderations = Form::Moderations { model: None };
        let chat = |text: &str| {
            format!(r#"{{"choices":[{{"message":{{"role":"assistant","content":"{text}"}}}}]}}"#)
        };
        for (form, body, refuses) in [
            (&Form::Webhook, r#"{"verdict":"allow"}"#.to_owned(), Some(false)),
            (&Form::Webhook, r#"{"verdict":"refuse","reason":"no"}"#.to_owned(), Some(true)),
            (&Form::Webhook, r#"{"verdict":"allow","verdict":"refuse"}"#.to_owned(), None),
            (&Form::Webhook, r#"{"verdict":true}"#.to_owned(), None),
            (&Form::Webhook, "{}".to_owned(), None),
            (&Form::Webhook, "OK".to_owned(), None),
            (
                &moderations,
                r#"{"results":[{"flagged":false},{"flagged":true,"categories":{"a":true}}]}"#.to_owned(),
                Some(true),
            ),
            (&moderations, r#"{"results":[{"flagged":false}]}"#.to_owned(), Some(false)),
            (&moderations, r#"{"results":[]}"#.to_owned(), None),
            (&moderations, r#"{"results":[{"flagged":"no"}]}"#.to_owned(), None),
            (&moderations, r#"{"error":{}}"#.to_owned(), None),
            (&judge(), chat("safe"), Some(false)),
            (&judge(), chat("\\n\\nUnsafe\\nS1"), Some(true)),
            (&judge(), chat("I cannot say"), None),
            (&judge(), chat("Safe."), Some(false)),
            (&judge(), chat("**unsafe**"), None),
            (&judge(), chat("safely said, this is unsafe"), None),
            (&judge(), chat("unsafe-content"), Some(true)),
            (&judge(), chat("safe-looking but not"), None),
            (&words("allow", "refuse"), chat("allowed nothing"), None),
            (&words("allow", "allow not"), chat("allow not this"), Some(true)),
            (&words("0%", "1%"), chat("1%, sure"), Some(true)),
            (&judge(), r#"{"choices":[]}"#.to_owned(), None),
        ] {
            let verdict = form.verdict(body.as_bytes());
            assert_eq!(verdict.as_ref().ok().map(|verdict| verdict.refuses), refuses, "{body}: {verdict:?}");
        }
    }
}
