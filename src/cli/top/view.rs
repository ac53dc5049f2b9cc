//! What is on the screen, from one reading of the admin API. Pure but for `NO_COLOR`.

use ratatui::Frame;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table, TableState, Wrap};
use serde_json::Value;

/// The tables, in the order of their keys `1` to `4`.
const PANES: [Pane; 4] = [
    Pane { title: "Backends", rows: "backends", name: "name", columns: BACKENDS },
    Pane { title: "Models", rows: "models", name: "name", columns: MODELS },
    Pane { title: "Limits", rows: "limits", name: "key", columns: LIMITS },
    Pane { title: "Failures", rows: "failures", name: "id", columns: FAILURES },
];

/// A table of the reading.
struct Pane {
    title: &'static str,
    /// The member of the reading.
    rows: &'static str,
    /// The member of a row that names it.
    name: &'static str,
    columns: &'static [Column],
}

struct Column {
    title: &'static str,
    /// The letter that sorts by it; blank for none.
    letter: char,
    width: Constraint,
    is_number: bool,
    text: fn(&Value) -> String,
    /// What it is sorted by.
    value: fn(&Value) -> f64,
}

macro_rules! column {
    ($title:literal, $letter:literal, $width:expr, text $member:literal) => {
        Column {
            title: $title,
            letter: $letter,
            width: $width,
            is_number: false,
            text: |row| text(&row[$member]),
            value: |_| 0.0,
        }
    };
    ($title:literal, $letter:literal, $width:expr, $form:ident $member:literal) => {
        Column {
            title: $title,
            letter: $letter,
            width: $width,
            is_number: true,
            text: |row| $form(&row[$member]),
            value: |row| row[$member].as_f64().unwrap_or(-1.0),
        }
    };
}

const BACKENDS: &[Column] = &[
    column!("backend", 'n', Constraint::Min(12), text "name"),
    column!("state", 's', Constraint::Length(9), text "state"),
    column!("in fl", 'i', Constraint::Length(5), number "in_flight"),
    column!("req/s", 'r', Constraint::Length(7), rate "requests_per_second"),
    column!("ttft p50", 't', Constraint::Length(8), seconds "ttft_p50"),
    column!("p99", ' ', Constraint::Length(7), seconds "ttft_p99"),
    column!("tok/s", 'o', Constraint::Length(7), rate "output_tokens_per_second"),
    column!("errors", 'e', Constraint::Length(6), percent "error_share"),
];

const MODELS: &[Column] = &[
    column!("model", 'n', Constraint::Min(16), text "name"),
    column!("waiting", 'i', Constraint::Length(7), number "waiting"),
    column!("req/s", 'r', Constraint::Length(7), rate "requests_per_second"),
    column!("ttft p50", 't', Constraint::Length(8), seconds "ttft_p50"),
    column!("p99", ' ', Constraint::Length(7), seconds "ttft_p99"),
    column!("tok/s", 'o', Constraint::Length(7), rate "output_tokens_per_second"),
    column!("errors", 'e', Constraint::Length(6), percent "error_share"),
];

const LIMITS: &[Column] = &[
    column!("key", 'n', Constraint::Min(16), text "key"),
    column!("limit", 's', Constraint::Length(20), text "name"),
    column!("used", 'r', Constraint::Length(11), number "used"),
    column!("of", 'o', Constraint::Length(11), number "max"),
    column!("free in", 't', Constraint::Length(8), seconds "free_in_seconds"),
];

const FAILURES: &[Column] = &[
    column!("time", 't', Constraint::Length(8), time "at_unix_ms"),
    column!("code", 's', Constraint::Length(4), number "status"),
    column!("reason", 'e', Constraint::Min(18), text "reason"),
    column!("key", 'n', Constraint::Length(12), text "key"),
    column!("model", ' ', Constraint::Length(16), text "model"),
    column!("backend", ' ', Constraint::Length(10), text "backend"),
];

pub(super) struct View {
    address: String,
    reading: Option<Value>,
    problem: Option<String>,
    pane: usize,
    /// A column of the pane, and whether the smallest comes first.
    sort: Option<(usize, bool)>,
    filter: String,
    is_typing: bool,
    is_paused: bool,
    has_detail: bool,
    selected: usize,
    is_colored: bool,
}

impl View {
    pub(super) fn new(address: String) -> Self {
        Self {
            address,
            reading: None,
            problem: None,
            pane: 0,
            sort: None,
            filter: String::new(),
            is_typing: false,
            is_paused: false,
            has_detail: false,
            selected: 0,
            is_colored: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }

    /// The last good reading stays on the screen when a later one fails.
    pub(super) fn take(&mut self, reading: Result<Value, String>) {
        match reading {
            Ok(reading) => (self.reading, self.problem) = (Some(reading), None),
            Err(problem) => self.problem = Some(problem),
        }
    }

    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// True to end.
    pub(super) fn press(&mut self, key: KeyCode) -> bool {
        if self.is_typing {
            match key {
                KeyCode::Char(char) => self.filter.push(char),
                KeyCode::Backspace => _ = self.filter.pop(),
                KeyCode::Esc => (self.filter, self.is_typing) = (String::new(), false),
                KeyCode::Enter => self.is_typing = false,
                _ => {}
            }
            return false;
        }
        match key {
            KeyCode::Char('q') => return true,
            KeyCode::Char('p') => self.is_paused = !self.is_paused,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char(digit @ '1'..='4') => {
                (self.pane, self.sort, self.selected) = (digit as usize - '1' as usize, None, 0);
            }
            KeyCode::Tab => (self.pane, self.sort, self.selected) = ((self.pane + 1) % PANES.len(), None, 0),
            KeyCode::Down | KeyCode::Char('j') => self.selected = self.selected.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.saturating_sub(1),
            KeyCode::Enter => self.has_detail = !self.has_detail,
            KeyCode::Esc if self.has_detail => self.has_detail = false,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char(letter) => self.sort_by(letter),
            _ => {}
        }
        false
    }

    fn sort_by(&mut self, letter: char) {
        let column =
            PANES[self.pane].columns.iter().position(|column| column.letter == letter && letter != ' ');
        let Some(column) = column else { return };
        self.sort = Some(match self.sort {
            Some((same, ascending)) if same == column => (column, !ascending),
            _ => (column, !PANES[self.pane].columns[column].is_number),
        });
    }

    fn rows(&self, pane: &Pane) -> Vec<&Value> {
        let all = self.reading.as_ref().and_then(|reading| reading[pane.rows].as_array());
        let filter = self.filter.to_lowercase();
        let mut rows: Vec<&Value> = all
            .into_iter()
            .flatten()
            .filter(|row| filter.is_empty() || row.to_string().to_lowercase().contains(&filter))
            .collect();
        if let Some((column, ascending)) = self.sort {
            let column = &pane.columns[column];
            rows.sort_by(|a, b| {
                let order = match column.is_number {
                    true => (column.value)(a).total_cmp(&(column.value)(b)),
                    false => (column.text)(a).cmp(&(column.text)(b)),
                };
                if ascending { order } else { order.reverse() }
            });
        }
        rows
    }

    /// The same screen as text, for a file or a pipe.
    pub(super) fn text(&mut self, width: u16, height: u16) -> String {
        self.is_colored = false;
        let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
        let Ok(_) = terminal.draw(|frame| self.draw(frame));
        let buffer = terminal.backend().buffer();
        let mut text = String::new();
        for y in 0..height {
            let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let sentence = self.sentence();
        let width = usize::from(frame.area().width.max(1));
        let lines = sentence.width().div_ceil(width).clamp(1, 2) as u16;
        let below = if self.pane == 3 { 0 } else { frame.area().height / 3 };
        let [head, said, tiles, main, failures, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(lines),
            Constraint::Length(2),
            Constraint::Min(4),
            Constraint::Length(below),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(self.head(), head);
        frame.render_widget(Paragraph::new(sentence).wrap(Wrap { trim: true }), said);
        frame.render_widget(Paragraph::new(self.tiles()), tiles);
        let count = self.rows(&PANES[self.pane]).len();
        self.selected = self.selected.min(count.saturating_sub(1));
        self.table(frame, main, self.pane, true);
        if below > 0 {
            self.table(frame, failures, 3, false);
        }
        frame.render_widget(self.foot(), foot);
        if self.has_detail {
            self.detail(frame);
        }
    }

    fn style(&self, color: Color) -> Style {
        if self.is_colored { Style::new().fg(color) } else { Style::new() }
    }

    fn head(&self) -> Line<'_> {
        let reading = self.reading.as_ref().unwrap_or(&Value::Null);
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let paused = if self.is_paused { "  PAUSED" } else { "" };
        Line::from(vec![
            Span::styled("ringway", bold),
            Span::raw(format!(
                " {} on {}, up {}",
                text(&reading["version"]),
                text(&reading["node"]),
                uptime(&reading["uptime_seconds"])
            )),
            Span::styled(paused, self.style(Color::Yellow)),
        ])
    }

    fn sentence(&self) -> Line<'static> {
        if let Some(problem) = &self.problem {
            return Line::styled(
                format!("NO CONNECTION to {}: {problem}", self.address),
                self.style(Color::Red),
            );
        }
        let Some(reading) = &self.reading else { return Line::raw("waiting for the first reading") };
        let state = text(&reading["state"]);
        let color = match &*state {
            "ok" => Color::Green,
            "down" => Color::Red,
            _ => Color::Yellow,
        };
        let word = Span::styled(state.to_uppercase(), self.style(color).add_modifier(Modifier::BOLD));
        Line::from(vec![word, Span::raw(format!(" {}", text(&reading["sentence"])))])
    }

    fn tiles(&self) -> Vec<Line<'static>> {
        let Some(reading) = &self.reading else { return Vec::new() };
        let at = |name: &str| &reading[name];
        vec![
            Line::raw(format!(
                "{} req/s  {} in flight  {} waiting   tok/s in {} out {}",
                rate(at("requests_per_second")),
                number(at("in_flight")),
                number(at("queued")),
                rate(at("input_tokens_per_second")),
                rate(at("output_tokens_per_second")),
            )),
            Line::raw(format!(
                "ttft p50 {} p99 {}   errors {}   refused {}   ({} s)",
                seconds(at("ttft_p50")),
                seconds(at("ttft_p99")),
                percent(at("error_share")),
                percent(at("refused_share")),
                number(at("window_seconds")),
            )),
        ]
    }

    fn table(&self, frame: &mut Frame<'_>, area: Rect, pane: usize, is_main: bool) {
        let of = &PANES[pane];
        let rows = if is_main { self.rows(of) } else { self.unsorted(of) };
        let head = of.columns.iter().enumerate().map(|(index, column)| {
            let mark = match self.sort {
                Some((sorted, ascending)) if is_main && sorted == index => {
                    if ascending {
                        "^"
                    } else {
                        "v"
                    }
                }
                _ => "",
            };
            aligned(format!("{}{mark}", column.title), column)
        });
        let head = Row::new(head).style(Style::new().add_modifier(Modifier::UNDERLINED));
        let lines = rows.iter().map(|row| {
            let cells = of.columns.iter().map(|column| aligned((column.text)(row), column));
            Row::new(cells).style(self.row_style(row))
        });
        let count = rows.len();
        let title = match (is_main, self.filter.is_empty()) {
            (true, false) => format!(" {} {count}, filter {} ", of.title, self.filter),
            _ => format!(" {} {count} ", of.title),
        };
        let table = Table::new(lines, of.columns.iter().map(|column| column.width))
            .header(head)
            .column_spacing(1)
            .block(Block::new().borders(ratatui::widgets::Borders::TOP).title(title))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        let mut state = TableState::new().with_selected((is_main && count > 0).then_some(self.selected));
        frame.render_stateful_widget(table, area, &mut state);
    }

    fn unsorted(&self, pane: &Pane) -> Vec<&Value> {
        self.reading
            .as_ref()
            .and_then(|reading| reading[pane.rows].as_array())
            .into_iter()
            .flatten()
            .collect()
    }

    fn row_style(&self, row: &Value) -> Style {
        match row["state"].as_str().or(row["side"].as_str()) {
            Some("down" | "backend" | "gateway") => self.style(Color::Red),
            Some("paused" | "drained" | "unknown") => self.style(Color::Yellow),
            _ if row["usable"] == false => self.style(Color::Red),
            _ => Style::new(),
        }
    }

    fn foot(&self) -> Line<'_> {
        if self.is_typing {
            return Line::raw(format!("filter: {}_   Enter keep, Esc drop", self.filter));
        }
        let letters: Vec<String> = PANES[self.pane]
            .columns
            .iter()
            .filter(|column| column.letter != ' ')
            .map(|column| format!("{} {}", column.letter, column.title))
            .collect();
        Line::raw(format!("1-4 pane  / filter  Enter detail  p pause  q quit | sort: {}", letters.join("  ")))
    }

    fn detail(&self, frame: &mut Frame<'_>) {
        let pane = &PANES[self.pane];
        let Some(row) = self.rows(pane).get(self.selected).copied() else { return };
        let mut lines: Vec<Line<'_>> = Vec::new();
        for (name, value) in row.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            lines.push(Line::raw(format!("{:<26} {}", name.replace('_', " "), listed(value))));
        }
        let area = frame.area();
        let height = (lines.len() as u16 + 2).min(area.height.saturating_sub(2));
        let width = area.width.saturating_sub(4).min(100);
        let place = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
        let title = format!(" {} ", text(&row[pane.name]));
        frame.render_widget(Clear, place);
        frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(title)), place);
    }
}

fn aligned<'a>(text: String, column: &Column) -> Cell<'a> {
    let line = Line::raw(text);
    Cell::from(if column.is_number { line.right_aligned() } else { line.left_aligned() })
}

/// One line, whatever is in a name: a terminal must not obey it.
fn text(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

fn listed(value: &Value) -> String {
    match value.as_array() {
        Some(all) => all.iter().map(text).collect::<Vec<_>>().join(", "),
        None => text(value),
    }
}

fn number(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |number| format!("{number:.0}"))
}

fn rate(value: &Value) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(rate) if rate >= 1e6 => format!("{:.1}M", rate / 1e6),
        Some(rate) if rate >= 1e4 => format!("{:.1}k", rate / 1e3),
        Some(rate) if rate >= 100.0 => format!("{rate:.0}"),
        Some(rate) => format!("{rate:.1}"),
    }
}

fn seconds(value: &Value) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(time) if time < 0.0095 => format!("{:.1}ms", time * 1e3),
        Some(time) if time < 0.9995 => format!("{:.0}ms", time * 1e3),
        Some(time) => format!("{time:.2}s"),
    }
}

fn percent(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |share| format!("{:.1}%", share * 100.0))
}

fn time(value: &Value) -> String {
    let seconds = value.as_u64().unwrap_or(0) / 1_000;
    format!("{:02}:{:02}:{:02}", seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60)
}

fn uptime(value: &Value) -> String {
    let seconds = value.as_f64().unwrap_or(0.0) as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests;
