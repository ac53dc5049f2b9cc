//! What a key and a team are made of, as options of commands: the members of their tables in the configuration.

use serde_json::{Map, Value, json};

/// Models, endpoints and limits.
#[derive(clap::Args)]
pub(super) struct Grant {
    /// A model that it may use, * for any run of characters; may be given several times
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
    /// An endpoint that it may call: chat, responses, messages, ...; may be given several times
    #[arg(long = "api", value_name = "API")]
    apis: Vec<String>,
    /// Requests per minute
    #[arg(long, value_name = "COUNT")]
    requests_per_minute: Option<u64>,
    /// Tokens per minute, of prompts and responses
    #[arg(long, value_name = "COUNT")]
    tokens_per_minute: Option<u64>,
    /// Requests in flight at once
    #[arg(long, value_name = "COUNT")]
    in_flight_max: Option<u64>,
    /// Any other member of its table in the configuration, as NAME=JSON: tokens_burst=5000
    #[arg(long = "member", value_name = "NAME=JSON", value_parser = member)]
    members: Vec<(String, Value)>,
}

/// Members that are taken away.
#[derive(clap::Args)]
pub(super) struct Clear {
    /// A member that is taken away, so that its default applies: models, expires, tokens_per_minute, ...; may be given several
    /// times
    #[arg(long = "clear", value_name = "MEMBER")]
    cleared: Vec<String>,
}

/// What only a key has.
#[derive(clap::Args)]
pub(super) struct OfKey {
    /// The team it belongs to
    #[arg(long)]
    team: Option<String>,
    /// When it expires: 2027-01-01T00:00:00Z
    #[arg(long, value_name = "INSTANT")]
    expires: Option<String>,
    /// A label for reports; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// A note, NAME=VALUE; may be given several times
    #[arg(long = "metadata", value_name = "NAME=VALUE", value_parser = note)]
    metadata: Vec<(String, String)>,
}

impl Grant {
    pub(super) fn members(&self) -> Map<String, Value> {
        let mut members = Map::new();
        for (name, list) in [("models", &self.models), ("apis", &self.apis)] {
            if !list.is_empty() {
                members.insert(name.to_owned(), json!(list));
            }
        }
        for (name, value) in [
            ("requests_per_minute", self.requests_per_minute),
            ("tokens_per_minute", self.tokens_per_minute),
            ("in_flight_max", self.in_flight_max),
        ] {
            if let Some(value) = value {
                members.insert(name.to_owned(), value.into());
            }
        }
        members.extend(self.members.iter().cloned());
        members
    }
}

impl Clear {
    pub(super) fn add_to(&self, members: &mut Map<String, Value>) {
        members.extend(self.cleared.iter().map(|name| (name.clone(), Value::Null)));
    }
}

impl OfKey {
    pub(super) fn add_to(&self, members: &mut Map<String, Value>) {
        for (name, value) in [("team", &self.team), ("expires", &self.expires)] {
            if let Some(value) = value {
                members.insert(name.to_owned(), json!(value));
            }
        }
        if !self.tags.is_empty() {
            members.insert("tags".to_owned(), json!(self.tags));
        }
        if !self.metadata.is_empty() {
            let notes: Map<String, Value> =
                self.metadata.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            members.insert("metadata".to_owned(), notes.into());
        }
    }
}

fn member(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=JSON")?;
    let value = serde_json::from_str(value)
        .map_err(|error| format!("{name}: {error}; expected JSON, like 5 or \"text\""))?;
    Ok((name.to_owned(), value))
}

fn note(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
