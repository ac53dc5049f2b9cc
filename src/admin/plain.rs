//! `/plain`: the first screen without a script, for curl, text browsers, and the day the dashboard itself is broken.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use super::api::{overview, requests};
use super::{Shared, pages};
use crate::coordinator::recent::Exchange;

/// Refusals and faults shown.
const ROWS_MAX: usize = 20;

/// HTML for a browser, text for everything else.
pub(super) async fn page(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let wants_html = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    let overview = serde_json::to_value(overview::read(&shared)).unwrap_or_default();
    let failed = shared.current.load().recent.find(0, ROWS_MAX, Exchange::has_failed);
    let failed = failed.iter().map(|row| serde_json::to_value(requests::row(row)).unwrap_or_default());
    let page = Page { overview, failed: failed.collect() };
    let (kind, body) = if wants_html {
        ("text/html; charset=utf-8", page.html())
    } else {
        ("text/plain; charset=utf-8", page.text())
    };
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], body).into_response()
}

use serde_json::Value;

/// The same JSON that the API tells, so that no number here is another one.
struct Page {
    overview: Value,
    failed: Vec<Value>,
}

type Cell = (&'static str, fn(&Value) -> String);

const BACKENDS: &[Cell] = &[
    ("backend", |row| text(&row["name"])),
    ("state", |row| text(&row["state"])),
    ("in flight", |row| number(&row["in_flight"], 0)),
    ("req/s", |row| number(&row["requests_per_second"], 1)),
    ("tok/s out", |row| number(&row["output_tokens_per_second"], 0)),
    ("TTFT p50", |row| seconds(&row["ttft_p50"])),
    ("TTFT p99", |row| seconds(&row["ttft_p99"])),
    ("errors", |row| percent(&row["error_share"])),
    ("why", |row| text(&row["why"])),
];

const MODELS: &[Cell] = &[
    ("model", |row| text(&row["name"])),
    ("usable", |row| if row["usable"] == true { "yes".to_owned() } else { "NO".to_owned() }),
    ("req/s", |row| number(&row["requests_per_second"], 1)),
    ("tok/s out", |row| number(&row["output_tokens_per_second"], 0)),
    ("TTFT p50", |row| seconds(&row["ttft_p50"])),
    ("TTFT p99", |row| seconds(&row["ttft_p99"])),
    ("errors", |row| percent(&row["error_share"])),
];

const LIMITS: &[Cell] = &[
    ("key", |row| text(&row["key"])),
    ("limit", |row| text(&row["name"])),
    ("used", |row| number(&row["used"], 0)),
    ("of", |row| number(&row["max"], 0)),
    ("free in", |row| seconds(&row["free_in_seconds"])),
];

const FAILED: &[Cell] = &[
    ("time (UTC)", |row| time(&row["at_unix_ms"])),
    ("status", |row| text(&row["status"])),
    ("reason", |row| text(&row["reason"])),
    ("key", |row| text(&row["key"])),
    ("model", |row| text(&row["model"])),
    ("backend", |row| text(&row["backend"])),
    ("request id", |row| text(&row["id"])),
];

impl Page {
    fn tables(&self) -> [(&'static str, &'static [Cell], &[Value]); 4] {
        let rows = |name: &str| self.overview[name].as_array().map_or(&[][..], Vec::as_slice);
        [
            ("Backends", BACKENDS, rows("backends")),
            ("Models", MODELS, rows("models")),
            ("Limits near their line", LIMITS, rows("limits")),
            ("Recent refusals and faults", FAILED, &self.failed),
        ]
    }

    fn tiles(&self) -> [(&'static str, String); 7] {
        let at = |name: &str| &self.overview[name];
        [
            ("requests/s", number(at("requests_per_second"), 1)),
            ("input tokens/s", number(at("input_tokens_per_second"), 0)),
            ("output tokens/s", number(at("output_tokens_per_second"), 0)),
            ("TTFT p50", seconds(at("ttft_p50"))),
            ("TTFT p99", seconds(at("ttft_p99"))),
            ("errors", percent(at("error_share"))),
            ("in flight", number(at("in_flight"), 0)),
        ]
    }

    fn text(&self) -> String {
        let mut out = format!(
            "ringway {} on {}: {}\n{}\n\n",
            text(&self.overview["version"]),
            text(&self.overview["node"]),
            text(&self.overview["state"]).to_uppercase(),
            text(&self.overview["sentence"])
        );
        for (name, value) in self.tiles() {
            let _ = writeln!(out, "{name:<16}{value:>12}");
        }
        for (title, cells, rows) in self.tables() {
            let _ = writeln!(out, "\n{title}");
            if rows.is_empty() {
                out.push_str("  none\n");
                continue;
            }
            let mut lines: Vec<Vec<String>> =
                vec![cells.iter().map(|(name, _)| (*name).to_owned()).collect()];
            lines.extend(rows.iter().map(|row| cells.iter().map(|(_, cell)| line(&cell(row))).collect()));
            let widths: Vec<usize> = (0..cells.len())
                .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
                .collect();
            for line in &lines {
                let padded: Vec<String> =
                    line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
                let _ = writeln!(out, "  {}", padded.join("  ").trim_end());
            }
        }
        out
    }

    fn html(&self) -> String {
        let state = text(&self.overview["state"]);
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>ringway: {}</title>\n\
             <meta name=\"viewport\" content=\"width=device-width\"><meta http-equiv=\"refresh\" content=\"5\">\n\
             <meta name=\"color-scheme\" content=\"light dark\"></head>\n<body>\n<h1>ringway on {}: {}</h1>\n<p><strong>{}</strong></p>\n",
            escape(&state),
            escape(&text(&self.overview["node"])),
            escape(&state),
            escape(&text(&self.overview["sentence"]))
        );
        if pages::is_built() {
            out.push_str("<p>This page needs no script. <a href=\"/\">The dashboard</a> shows more.</p>\n");
        }
        out.push_str("<table cellpadding=\"4\"><tr>");
        for (name, _) in self.tiles() {
            let _ = write!(out, "<th scope=\"col\">{name}</th>");
        }
        out.push_str("</tr><tr>");
        for (_, value) in self.tiles() {
            let _ = write!(out, "<td>{}</td>", escape(&value));
        }
        out.push_str("</tr></table>\n");
        for (title, cells, rows) in self.tables() {
            let _ = writeln!(out, "<h2>{title}</h2>");
            if rows.is_empty() {
                out.push_str("<p>None.</p>\n");
                continue;
            }
            out.push_str("<table border=\"1\" cellpadding=\"4\" cellspacing=\"0\"><tr>");
            for (name, _) in cells {
                let _ = write!(out, "<th scope=\"col\">{name}</th>");
            }
            out.push_str("</tr>\n");
            for row in rows {
                out.push_str("<tr>");
                for (_, cell) in cells {
                    let _ = write!(out, "<td>{}</td>", escape(&cell(row)));
                }
                out.push_str("</tr>\n");
            }
            out.push_str("</table>\n");
        }
        let _ = writeln!(
            out,
            "<p>ringway {}, read anew every 5 seconds. The same as JSON: <code>/api/v1/overview</code></p>\n</body></html>",
            escape(&text(&self.overview["version"]))
        );
        out
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// One line of a terminal, whatever is in a name.
fn line(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

fn number(value: &Value, digits: usize) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |number| format!("{number:.digits$}"))
}

fn seconds(value: &Value) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(time) if time < 1.0 => format!("{:.0} ms", time * 1e3),
        Some(time) => format!("{time:.2} s"),
    }
}

fn percent(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

fn time(value: &Value) -> String {
    let seconds = value.as_u64().unwrap_or(0) / 1_000;
    format!("{:02}:{:02}:{:02}", seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60)
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            char if char.is_control() => out.push('\u{fffd}'),
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hostile() -> Page {
        let name = "<script>alert(1)</script>\u{1b}[31m\"'&";
        Page {
            overview: json!({
                "version": "1", "node": "n", "state": "ok", "sentence": name,
                "backends": [{ "name": name, "state": "ok", "in_flight": 3, "ttft_p50": 0.25, "ttft_p99": 1.5 }],
                "models": [{ "name": name, "usable": false }],
            }),
            failed: vec![json!({ "at_unix_ms": 3_661_000, "status": 429, "key": name })],
        }
    }

    #[test]
    fn a_hostile_name_is_text_in_html_and_one_line_in_text() {
        let page = hostile();
        let html = page.html();
        assert!(!html.contains("<script") && !html.contains('\u{1b}'), "{html}");
        assert!(html.contains("&lt;script&gt;alert(1)"));
        assert!(page.text().lines().skip(2).all(|line| !line.contains('\u{1b}')));
    }

    #[test]
    fn unknown_is_not_zero() {
        let text = hostile().text();
        let row = text.lines().find(|line| line.contains("250 ms")).unwrap();
        assert!(row.contains("1.50 s") && row.contains("  -"), "{row}");
        assert!(text.contains("01:01:01"));
        assert!(text.contains("Limits near their line\n  none\n"));
    }
}
