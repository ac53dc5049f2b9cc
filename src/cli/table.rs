//! Rows of cells, for people, for scripts (one JSON object a line) and for spreadsheets.

use std::process::ExitCode;

use serde_json::{Map, Value};

use super::print;

/// How rows are printed.
#[derive(clap::Args, Clone, Copy)]
pub(super) struct Format {
    /// One JSON object a line
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Comma-separated values, with a head line
    #[arg(long)]
    csv: bool,
}

/// Rows in memory.
const ROWS_MAX: usize = 10_000;

/// Rows under the names of their columns. Numbers are aligned to the right.
pub(super) struct Table {
    names: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
    /// Rows have been printed before these.
    is_continued: bool,
}

impl Table {
    /// No rows yet.
    pub(super) fn new(names: &[&'static str]) -> Self {
        Self { names: names.to_vec(), rows: Vec::new(), is_continued: false }
    }

    /// Adds a row, with a cell for each name.
    pub(super) fn push(&mut self, row: Vec<Value>) {
        debug_assert_eq!(row.len(), self.names.len(), "a cell for each name");
        self.rows.push(row);
    }

    /// Prints the last rows of it; a table for people that never had any says `nothing`.
    pub(super) fn print(&self, format: Format, nothing: &str) -> ExitCode {
        let text = match format {
            Format { json: true, .. } => self.json(),
            Format { csv: true, .. } => self.csv(),
            _ if self.rows.is_empty() && !self.is_continued => nothing.to_owned(),
            _ if self.rows.is_empty() => String::new(),
            _ => self.text(),
        };
        if text.is_empty() { ExitCode::SUCCESS } else { print(&text) }
    }

    /// Prints the rows so far and forgets them, once there are many: a table may have more than fit into memory.
    pub(super) fn print_if_long(&mut self, format: Format) -> ExitCode {
        if self.rows.len() < ROWS_MAX {
            return ExitCode::SUCCESS;
        }
        let status = self.print(format, "");
        self.rows.clear();
        self.is_continued = true;
        status
    }

    fn json(&self) -> String {
        let object = |row: &Vec<Value>| {
            let members = self.names.iter().map(|&name| name.to_owned()).zip(row.iter().cloned());
            Value::Object(members.collect::<Map<_, _>>()).to_string()
        };
        self.rows.iter().map(object).collect::<Vec<_>>().join("\n")
    }

    fn csv(&self) -> String {
        let line =
            |row: &Vec<Value>| row.iter().map(|cell| quoted(&shown(cell))).collect::<Vec<_>>().join(",");
        let head = (!self.is_continued).then(|| self.names.join(","));
        head.into_iter().chain(self.rows.iter().map(line)).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn text(&self) -> String {
        let head = self.names.iter().map(|name| name.replace('_', " ").to_uppercase()).collect::<Vec<_>>();
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|cell| plain(&shown(cell))).collect()).collect();
        let widths: Vec<usize> = (0..head.len())
            .map(|column| {
                let cells = rows.iter().chain([&head]).map(|row| row[column].chars().count());
                cells.max().unwrap_or(0)
            })
            .collect();
        let is_number: Vec<bool> = (0..head.len())
            .map(|column| self.rows.iter().all(|row| row[column].is_number() || row[column].is_null()))
            .collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).zip(&is_number).map(|((cell, &width), &is_number)| {
                if is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let head = (!self.is_continued).then_some(&head);
        head.into_iter().chain(&rows).map(line).collect::<Vec<_>>().join("\n")
    }
}

fn shown(cell: &Value) -> String {
    match cell {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A text that a client chose must not move the terminal's cursor.
fn plain(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '?' } else { char }).collect()
}

/// A cell that no spreadsheet takes for several, or for a formula.
fn quoted(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '@', '\t', '\r'])
        || text.starts_with('-') && text.parse::<f64>().is_err();
    let text = if is_formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["key", "input_tokens"]);
        table.push(vec![json!("ci"), json!(12)]);
        table.push(vec![json!("=cmd(),\"x\""), json!(3_000)]);
        table
    }

    #[test]
    fn people_get_aligned_columns() {
        assert_eq!(
            table().text(),
            "KEY         INPUT TOKENS\nci                    12\n=cmd(),\"x\"          3000"
        );
    }

    #[test]
    fn scripts_get_an_object_a_line() {
        assert_eq!(table().json().lines().next(), Some(r#"{"input_tokens":12,"key":"ci"}"#));
    }

    #[test]
    fn spreadsheets_get_no_formula_and_no_broken_line() {
        assert_eq!(table().csv(), "key,input_tokens\nci,12\n\"'=cmd(),\"\"x\"\"\",3000");
        for (text, cell) in [("-1", "-1"), ("-x", "'-x"), ("@a", "'@a"), ("a\nb", "\"a\nb\""), ("", "")] {
            assert_eq!(quoted(text), cell);
        }
    }

    #[test]
    fn a_long_table_is_printed_in_parts_under_one_head() {
        let mut table = table();
        table.is_continued = true;
        assert_eq!(table.csv().lines().next(), Some("ci,12"));
        assert!(table.text().starts_with("ci  "));
    }

    #[test]
    fn control_characters_are_not_printed_for_people() {
        assert_eq!(plain("a\x1b[31mb"), "a?[31mb");
    }
}
