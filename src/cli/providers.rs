//! `ringway providers`: every kind of backend, where it is, how it is called, and what it serves.

use std::process::ExitCode;

use super::print;
use crate::dialect::Api;
use crate::provider::{Credential, ProviderKind};

pub(super) fn command() -> ExitCode {
    print(&text())
}

/// One row per kind, in columns as wide as their longest entry.
fn text() -> String {
    let heads = ["KIND", "BASE URL", "CREDENTIAL", "SERVES"].map(str::to_owned);
    let rows: Vec<[String; 4]> = std::iter::once(heads).chain(ProviderKind::all().iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        let indent = format!("\n{}", " ".repeat(line.chars().count()));
        line.push_str(&wrapped(&row[3], SERVES_WIDTH).join(&indent));
        out.push_str(&line);
        out.push('\n');
    }
    out.push_str(NOTES);
    out
}

/// Width of the last column.
const SERVES_WIDTH: usize = 64;

const NOTES: &str = "
A backend of a kind whose base URL has no word in capitals needs no url or api_base: kind = \"NAME\" and api_key are enough.
What a kind does not serve is translated for clients of chat, responses and messages. serves = [..] overrides the list.";

fn row(kind: &ProviderKind) -> [String; 4] {
    let credential = match kind.credential {
        Credential::Bearer => "Bearer",
        Credential::ApiKey => "x-api-key",
        Credential::AzureKey => "api-key",
        Credential::GoogleKey => "x-goog-api-key",
    };
    let serves: Vec<&str> = kind.serves.iter().map(Api::name).collect();
    [kind.name.to_owned(), kind.example.to_owned(), credential.to_owned(), serves.join(" ")]
}

/// The words of a text in lines of at most `width` characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + 1 + word.len() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_row_in_straight_columns() {
        let text = text();
        let (table, _) = text.split_once("\n\n").unwrap();
        let at = table.find("SERVES").unwrap();
        for kind in ProviderKind::all() {
            let row = table.lines().find(|line| line.split(' ').next() == Some(kind.name)).unwrap();
            let serves = kind.serves.iter().next().unwrap().name();
            assert!(row[at..].starts_with(serves) && row.contains(kind.example), "{row}");
        }
        assert!(table.lines().all(|line| line.len() <= at + SERVES_WIDTH && !line.ends_with(' ')), "{table}");
        let words = table.lines().skip(1).map(|line| line[at..].split(' ').count()).sum::<usize>();
        assert_eq!(words, ProviderKind::all().iter().map(|kind| kind.serves.iter().count()).sum::<usize>());
    }
}
