//! `ringway route explain`: which backend a prompt would get from the gateway that runs, and why.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;
use serde_json::value::RawValue;

use super::table::Table;
use super::{ask, complain, print};

/// What about routes.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Print which backend a prompt would get, with each backend's cost and what it rests on; nothing is sent to a backend
    Explain(Explain),
}

/// Which prompt.
#[derive(clap::Args)]
pub(super) struct Explain {
    /// The body of a request (JSON), or a text that is one user message; - reads standard input
    file: PathBuf,
    /// The model or alias [default: the one that the request names]
    #[arg(long)]
    model: Option<String>,
    /// The endpoint, as `serves` of a backend names it [default: chat]
    #[arg(long)]
    api: Option<String>,
    /// The name of the key that it would be sent with
    #[arg(long)]
    key: Option<String>,
    /// A header line, 'NAME: VALUE', for rules that look at it; may be given several times
    #[arg(long = "header", value_name = "LINE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The session, as a header line would name it
    #[arg(long)]
    session: Option<String>,
    /// Print the JSON of the admin API
    #[arg(long)]
    json: bool,
    /// The configuration file [default: ./ringway.toml, then /etc/ringway/ringway.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Asks the gateway. Exit status 1 if it cannot be asked, or refuses the question.
pub(super) fn command(command: Command) -> ExitCode {
    let Command::Explain(explain) = command;
    match answer(&explain) {
        Ok(text) => print(&text),
        Err(text) => complain(&format!("ringway: {text}")),
    }
}

fn answer(explain: &Explain) -> Result<String, String> {
    let text = read(&explain.file).map_err(|error| format!("{}: {error}", explain.file.display()))?;
    let question = question(explain, &text)?;
    let admin = ask::admin_of(explain.config.clone())?;
    let answer = ask::post(admin, "/api/v1/route/explain", &question)?;
    match explain.json {
        true => serde_json::to_string_pretty(&answer).map_err(|error| error.to_string()),
        false => Ok(shown(&answer)),
    }
}

fn read(file: &Path) -> std::io::Result<String> {
    if file.as_os_str() != "-" {
        return std::fs::read_to_string(file);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map(|_| text)
}

/// What the admin API is asked. The request stays as it was written: another order of its members would be another prompt.
#[derive(serde::Serialize)]
struct Question<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    request: &'a RawValue,
}

/// The question: a JSON object is the request itself, anything else is a message.
fn question(explain: &Explain, text: &str) -> Result<String, String> {
    let own = serde_json::from_str::<Value>(text).ok().filter(Value::is_object);
    let is_named = own.as_ref().is_some_and(|request| request.get("model").is_some());
    if explain.model.is_none() && !is_named {
        return Err("the request names no model; expected --model NAME".to_owned());
    }
    let message = serde_json::json!({ "messages": [{ "role": "user", "content": text }] }).to_string();
    let request: &RawValue = serde_json::from_str(if own.is_some() { text } else { &message })
        .map_err(|error| error.to_string())?;
    let question = Question {
        model: explain.model.as_deref(),
        api: explain.api.as_deref(),
        key: explain.key.as_deref(),
        headers: explain.headers.iter().map(|(name, value)| (&**name, &**value)).collect(),
        session: explain.session.as_deref(),
        request,
    };
    serde_json::to_string(&question).map_err(|error| error.to_string())
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME: VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// The response as a table, the chosen one marked.
fn shown(answer: &Value) -> String {
    let text = |name: &str| answer[name].as_str().unwrap_or("").to_owned();
    let chosen = answer["chosen"].as_str().unwrap_or("none: no backend can take it now");
    if let Some(why) = answer["refused"].as_str() {
        return format!("model {}: refused: {why}", text("model"));
    }
    let asked = answer["asked"].as_str().map(|asked| format!(" for {asked}")).unwrap_or_default();
    let session = if answer["session"] == true { ", with a session" } else { "" };
    let head = format!(
        "model {}{asked}, policy {}: {} tokens in {} blocks{session}\nchosen: {chosen}\n\n",
        text("model"),
        text("policy"),
        answer["prompt_tokens"],
        answer["blocks"],
    );
    let mut table = Table::new(&[
        "backend", "cost_ms", "wait_ms", "harm_ms", "kv_ms", "slowness", "matched", "pending", "streams",
        "session", "state",
    ]);
    for member in answer["members"].as_array().into_iter().flatten() {
        let ms = |name: &str| Value::from((member[name].as_f64().unwrap_or(0.0) * 1e4).round() / 10.0);
        let name = member["backend"].as_str().unwrap_or("");
        let mark = if name == chosen { "* " } else { "  " };
        table.push(vec![
            Value::from(format!("{mark}{name}")),
            ms("cost"),
            ms("wait"),
            ms("harm"),
            ms("kv"),
            Value::from((member["slowness"].as_f64().unwrap_or(1.0) * 100.0).round() / 100.0),
            member["matched_tokens"].clone(),
            member["pending_tokens"].clone(),
            member["in_flight"].clone(),
            Value::from(if member["session"] == true { "yes" } else { "" }),
            Value::from(member["unavailable"].as_str().unwrap_or("ready")),
        ]);
    }
    head + &table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(model: Option<&str>) -> Explain {
        Explain {
            file: PathBuf::from("-"),
            model: model.map(str::to_owned),
            api: None,
            key: None,
            headers: Vec::new(),
            session: Some("s".to_owned()),
            json: false,
            config: None,
        }
    }

    #[test]
    fn a_json_object_is_the_request_and_anything_else_is_a_message() {
        let own = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
        let body = question(&explain(None), own).unwrap();
        assert_eq!(body, format!(r#"{{"session":"s","request":{own}}}"#), "as it was written");
        for text in ["What is a \"ring\"?\n", "42", "[1]", "{broken"] {
            let body: Value = serde_json::from_str(&question(&explain(Some("m")), text).unwrap()).unwrap();
            assert_eq!(body["request"]["messages"][0]["content"], text);
            assert_eq!(body["model"], "m");
        }
        assert!(question(&explain(None), "hello").unwrap_err().contains("--model"));
    }

    #[test]
    fn the_chosen_backend_is_marked_and_times_are_in_milliseconds() {
        let answer = serde_json::json!({
            "model": "m", "policy": "cost", "prompt_tokens": 100, "blocks": 1, "session": true, "chosen": "b",
            "members": [
                { "backend": "a", "cost": 0.5, "unavailable": "down" },
                { "backend": "b", "cost": 0.0125, "slowness": 1.6, "matched_tokens": 64, "session": true },
            ],
        });
        let text = shown(&answer);
        assert!(text.contains("chosen: b") && text.contains("with a session"), "{text}");
        let line = |name: &str| {
            text.lines()
                .find(|line| line.get(1..).is_some_and(|line| line.starts_with(&format!(" {name} "))))
                .unwrap()
                .to_owned()
        };
        assert!(
            line("b").starts_with('*') && line("b").contains("12.5") && line("b").contains("yes"),
            "{text}"
        );
        assert!(
            !line("a").starts_with('*') && line("a").contains("500.0") && line("a").contains("down"),
            "{text}"
        );
    }
}
