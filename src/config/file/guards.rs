//! Content rules.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::quantity::{Size, Time};

/// A content rule: what it searches for, where, and what follows a match.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// Detectors: "payment_card", "iban", "email", "phone", "national_id", "ip", "secrets", "injection".
    #[serde(default)]
    pub detect: Vec<String>,
    /// Regular expressions, in the syntax of Rust's regex crate. Their search takes time linear in the text.
    #[serde(default)]
    pub patterns: Vec<String>,
    /// Words and phrases, in any case: a list, or { file = "/path" } with one a line.
    #[serde(default)]
    pub words: Words,
    /// A guard in another process, which is asked before a request goes to a backend, and with "output" in where about the response:
    /// before it is sent, or before a stream ends. In the place of detect, patterns and words.
    #[serde(default)]
    pub external: Option<External>,
    /// Which texts are searched: "input", "output", "tools" (calls and results), "thinking", "system".
    #[serde(default = "input", rename = "where")]
    pub places: Vec<String>,
    /// "log"; "mask" replaces each match by a label; "refuse" refuses a request and stops a response; "stop" ends a response
    /// with an error; { route = "MODEL" } sends a request to another model.
    pub action: GuardAction,
    /// The models it is for; `*` is any run of characters.
    #[serde(default = "every")]
    pub models: Vec<String>,
    /// The keys it is for; `*` is any run of characters. Default: all, and requests without a key.
    #[serde(default)]
    pub keys: Option<Vec<String>>,
    /// The teams it is for; `*` is any run of characters. Default: all.
    #[serde(default)]
    pub teams: Option<Vec<String>>,
    /// The keys it is for, by their tags: those that have one of these; `*` is any run of characters. Default: all.
    #[serde(default)]
    pub tags: Option<Vec<String>>,
    /// What stands for a masked match, `<LABEL_1>`: capitals, digits and underscores. Default: the detector's.
    #[serde(default)]
    pub label: Option<String>,
    /// true: where a response repeats a label of the request, the client gets back the text that it stands for. For action = "mask".
    #[serde(default)]
    pub restore: bool,
    /// What a request may be made of. In the place of, or beside, detect, patterns and words.
    #[serde(default)]
    pub request: Option<RequestShape>,
    /// Of several rules that decide about one request, the one with the lowest number does; equal numbers by name.
    #[serde(default = "rank")]
    pub rank: u32,
    /// true: only counts what it would have done.
    #[serde(default)]
    pub shadow: bool,
}

/// What a request may be made of: more is refused, or only logged.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RequestShape {
    /// Size of the body after decompression.
    pub body_max: Option<Size>,
    /// Tools that it offers.
    pub tools_max: Option<usize>,
    /// The names of tools that it may offer; `*` is any run of characters. Tools of the provider go by their type. Default: all.
    pub tools_allow: Option<Vec<String>>,
    /// The names of tools that it may not offer.
    pub tools_deny: Vec<String>,
    /// Images, in the body or by URL.
    pub images_max: Option<usize>,
    /// Recordings.
    pub audio_max: Option<usize>,
    /// The hosts of images that are given by their URL (http and https); `*` is any run of characters. Default: all URLs.
    pub image_hosts: Option<Vec<String>>,
    /// Parameters and the largest number of each, for example { max_tokens = 4096 }: larger ones are replaced by it. Parameters that are
    /// not in the request are left out.
    pub clamp: BTreeMap<String, f64>,
}

/// A guard in another process.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct External {
    /// The backend that it is: where it is, its credential and TLS, and in_flight_max as the bound of calls at once. Not one whose
    /// requests are signed (SigV4).
    pub backend: String,
    /// "webhook": a JSON document with the texts; "moderations": OpenAI's; "judge": a model, asked by chat completions.
    pub form: ExternalForm,
    /// The complete path. Default: /, /v1/moderations, /v1/chat/completions.
    #[serde(default)]
    pub path: Option<String>,
    /// The model that is asked for. A judge needs one.
    #[serde(default)]
    pub model: Option<String>,
    /// What a judge is asked; {text} stands for the texts.
    #[serde(default)]
    pub prompt: Option<String>,
    /// The word that the response of a judge begins with that allows. Default: "safe".
    #[serde(default)]
    pub allow: Option<String>,
    /// How the response of a judge begins that refuses. Default: "unsafe".
    #[serde(default)]
    pub refuse: Option<String>,
    /// How long it is waited for.
    #[serde(default = "timeout")]
    pub timeout: Time,
    /// Without a verdict: "refuse" the request, or let it "pass".
    #[serde(default)]
    pub on_failure: OnFailure,
    /// How long a verdict is used for the same texts; that of a webhook for the same model and key only. "0s": it is asked every
    /// time.
    #[serde(default = "never")]
    pub keep: Time,
}

/// How a guard in another process is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExternalForm {
    /// A JSON document with the texts.
    Webhook,
    /// OpenAI's moderations.
    Moderations,
    /// A model, asked by chat completions.
    Judge,
}

/// What follows if there is no verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The request is refused.
    #[default]
    Refuse,
    /// The request passes.
    Pass,
}

const fn never() -> Time {
    Time::seconds(0)
}

const fn timeout() -> Time {
    Time::seconds(1)
}

/// Words and phrases.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Words {
    /// Here.
    List(Vec<String>),
    /// In a file, one a line; empty lines and lines that begin with # are left out.
    File {
        /// Its path.
        file: PathBuf,
    },
}

impl Default for Words {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

/// What follows a match.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuardAction {
    /// It is counted.
    Log,
    /// It is replaced by a label.
    Mask,
    /// The request is refused, a response stopped.
    Refuse,
    /// A response is stopped, a request refused.
    Stop,
    /// The request goes to this model.
    Route(String),
}

fn input() -> Vec<String> {
    vec!["input".to_owned()]
}

fn every() -> Vec<String> {
    vec!["*".to_owned()]
}

const fn rank() -> u32 {
    100
}
