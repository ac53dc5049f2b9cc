//! Commands that ask the running gateway over its admin API: tables for people, `--json` for scripts.
//!
//! Exit status 1 if the gateway refuses, 2 for wrong arguments, 3 if it cannot be reached.

pub(super) mod backends;
pub(super) mod budgets;
pub(super) mod keys;
mod members;
pub(super) mod teams;
pub(super) mod tokens;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Map, Value};

use super::ask::{self, TOKEN};
use super::table::Format;
use super::{complain, print};

/// Which gateway is asked.
#[derive(clap::Args, Clone)]
struct Gateway {
    /// The configuration file that says where the gateway's admin listener is [default: ./ringway.toml, then
    /// /etc/ringway/ringway.toml]
    #[arg(long, value_name = "FILE", conflicts_with = "admin")]
    config: Option<PathBuf>,
    /// Where its admin listener is, instead of a file
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
}

/// What is listed.
#[derive(clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    format: Format,
}

/// One row, by its name.
#[derive(clap::Args)]
pub(super) struct Named {
    #[command(flatten)]
    gateway: Gateway,
    /// Its name
    name: String,
}

/// One row, and what became of it.
#[derive(clap::Args)]
pub(super) struct Shown {
    #[command(flatten)]
    of: Named,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Named {
    /// Asks for something to be done with the row of this collection: `keys`, `teams`, ...; `action`: the rest of the path.
    fn ask(
        &self,
        method: &str,
        (rows, action): (&str, &str),
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        self.gateway.ask(method, &format!("/api/v1/{rows}/{}{action}", encoded(&self.name)), body)
    }

    /// Asks for a row to be created from its members, under this name.
    fn create(&self, rows: &str, mut members: Map<String, Value>) -> Result<Value, Failure> {
        members.insert("name".to_owned(), self.name.as_str().into());
        self.gateway.ask("POST", &format!("/api/v1/{rows}"), Some(&members.into()))
    }

    /// Asks for members of the row to be changed.
    fn change(&self, rows: &str, members: Map<String, Value>) -> Result<Value, Failure> {
        if members.is_empty() {
            return Err(Failure::Refused("there is nothing to change; see --help".to_owned()));
        }
        self.ask("PATCH", (rows, ""), Some(&members.into()))
    }

    /// Asks for the end of the row, and says so.
    fn end(&self, rows: &str, word: &str, done: &str) -> Result<ExitCode, Failure> {
        self.ask("DELETE", (rows, ""), None).map(|_| print(&format!("{word} {} is {done}", self.name)))
    }
}

impl Shown {
    fn read(&self, rows: &str) -> Result<ExitCode, Failure> {
        self.of.ask("GET", (rows, ""), None).map(|row| show(&row, self.json))
    }
}

/// Why there is nothing to print.
enum Failure {
    /// The gateway says no, or the configuration file cannot be read.
    Refused(String),
    /// No response.
    Unreachable(String),
}

impl Gateway {
    fn address(&self) -> Result<SocketAddr, Failure> {
        if let Some(admin) = self.admin {
            return Ok(admin);
        }
        ask::admin_of(self.config.clone()).map_err(Failure::Refused)
    }

    /// What the admin API responds.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let admin = self.address()?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let (status, text) = ask::ask(admin, method, path, &body).map_err(|error| {
            Failure::Unreachable(format!("no response from the gateway on {admin}: {error}"))
        })?;
        match status {
            200..=299 => serde_json::from_str(&text).map_err(|error| {
                Failure::Refused(format!("the gateway on {admin} responds no JSON: {error}"))
            }),
            401 => Err(Failure::Refused(format!(
                "the gateway on {admin} asks for a token: set {TOKEN} to the token of [admin], or to one that `ringway token \
                 create` made"
            ))),
            _ => {
                let told: Option<Value> = serde_json::from_str(&text).ok();
                let message = told.as_ref().and_then(|told| told["error"]["message"].as_str());
                Err(Failure::Refused(message.unwrap_or(text.trim_end()).to_owned()))
            }
        }
    }

    /// Rows of a list that comes in pages.
    fn pages(&self, path: &str, rows: &str) -> Result<Vec<Value>, Failure> {
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let mut page = self.ask("GET", &format!("{path}limit=200{after}"), None)?;
            if let Some(Value::Array(rows)) = page.get_mut(rows).map(Value::take) {
                all.extend(rows);
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={}", encoded(next)),
                None => return Ok(all),
            }
        }
    }
}

/// Prints why there is nothing else to print.
fn finish(done: Result<ExitCode, Failure>) -> ExitCode {
    match done {
        Ok(status) => status,
        Err(Failure::Refused(text)) => complain(&format!("ringway: {text}")),
        Err(Failure::Unreachable(text)) => {
            complain(&format!("ringway: {text}"));
            ExitCode::from(3)
        }
    }
}

/// A name within a path or a query.
fn encoded(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => text.push(char::from(byte)),
            _ => _ = write!(text, "%{byte:02X}"),
        }
        text
    })
}

/// One object: as it is for scripts, one member a line for people.
fn show(object: &Value, json: bool) -> ExitCode {
    if json {
        return print(&object.to_string());
    }
    let lines = object.as_object().into_iter().flatten().filter(|(_, value)| {
        !value.is_null()
            && value.as_array().is_none_or(|list| !list.is_empty())
            && value.as_object().is_none_or(|map| !map.is_empty())
    });
    let line = |(name, value): (&String, &Value)| {
        let name = name.trim_end_matches("_unix_ms").replace('_', " ");
        format!("{name:<26} {}", shown(&name, value))
    };
    print(&lines.map(line).collect::<Vec<_>>().join("\n"))
}

fn shown(name: &str, value: &Value) -> String {
    let times = ["created", "revoked", "expires", "previous valid until", "reset", "start"];
    match value {
        Value::Number(at) if times.contains(&name) => super::time::rfc3339(at.as_u64().unwrap_or(0)),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.iter().all(Value::is_string) => {
            list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// A secret that was made: alone on standard output, so that a script can take it; what to do with it beside that.
fn print_secret(made: &Value, what: &str, json: bool) -> ExitCode {
    if json {
        return print(&made.to_string());
    }
    complain(&format!("The {what}, shown only now:"));
    print(made["secret"].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_no_other_path() {
        assert_eq!(encoded("a/../b?c=d&e f"), "a%2F..%2Fb%3Fc%3Dd%26e%20f");
        assert_eq!(encoded("team-a_1.x"), "team-a_1.x");
    }

    #[test]
    fn times_are_shown_as_such() {
        assert_eq!(shown("created", &Value::from(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(shown("requests", &Value::from(7)), "7");
        assert_eq!(shown("models", &serde_json::json!(["a", "b"])), "a, b");
    }
}
