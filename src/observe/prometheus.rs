//! The Prometheus text format, version 0.0.4.
//!
//! A [`Family`] is one metric with its help and type; every sample is one label set. Label values are names of
//! the plan or of ours, so they are bounded; should a plan have more than [`SERIES_MAX`] of them, [`shown`] says
//! which rows keep their name and which are summed as `other`.

use std::fmt::Write;

/// The value of the `Content-Type` line.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Label sets of one metric, at most. A histogram with its buckets is one.
pub const SERIES_MAX: usize = 1_000;

/// The label value of what is beyond [`SERIES_MAX`].
pub const OTHER: &str = "other";

/// How many of `rows` rows keep their name when each has `sets` label sets; the others are summed into one row
/// named [`OTHER`].
pub fn shown(rows: usize, sets: usize) -> usize {
    let most = SERIES_MAX / sets.max(1);
    if rows <= most { rows } else { most.saturating_sub(1) }
}

/// A page of metrics being written.
#[derive(Default)]
pub struct Page {
    out: String,
}

/// One metric of the page.
pub struct Family<'page> {
    out: &'page mut String,
    name: &'static str,
}

/// Name and value of each label.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

impl Page {
    /// An empty page with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { out: String::with_capacity(bytes) }
    }

    /// Starts a metric that only grows; its name ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, help, "counter")
    }

    /// Starts a metric that goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, help, "gauge")
    }

    /// Starts a histogram; its samples are written with [`Family::histogram`].
    pub fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, help, "histogram")
    }

    /// The text, which ends in a line feed unless it is empty.
    pub fn finish(self) -> String {
        self.out
    }

    fn family(&mut self, name: &'static str, help: &str, kind: &str) -> Family<'_> {
        self.out.push_str("# HELP ");
        self.out.push_str(name);
        self.out.push(' ');
        escape(&mut self.out, help, false);
        self.out.push_str("\n# TYPE ");
        self.out.push_str(name);
        self.out.push(' ');
        self.out.push_str(kind);
        self.out.push('\n');
        Family { out: &mut self.out, name }
    }
}

impl Family<'_> {
    /// One whole number.
    pub fn count(&mut self, labels: Labels<'_>, value: u64) {
        self.line("", labels, None, value);
    }

    /// One number.
    pub fn value(&mut self, labels: Labels<'_>, value: f64) {
        self.line("", labels, None, value);
    }

    /// One histogram: `cumulative[i]` samples are at or below `bounds[i]`, `count` are in all.
    pub fn histogram<B: std::fmt::Display>(
        &mut self,
        labels: Labels<'_>,
        bounds: &[B],
        cumulative: &[u64],
        sum: f64,
        count: u64,
    ) {
        for (bound, below) in bounds.iter().zip(cumulative) {
            self.line("_bucket", labels, Some(bound), below);
        }
        self.line("_bucket", labels, Some(&"+Inf"), count);
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, count);
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: Labels<'_>,
        bound: Option<&dyn std::fmt::Display>,
        value: impl std::fmt::Display,
    ) {
        self.out.push_str(self.name);
        self.out.push_str(suffix);
        let mut before = '{';
        for (label, text) in labels {
            self.out.push(before);
            self.out.push_str(label);
            self.out.push_str("=\"");
            escape(self.out, text, true);
            self.out.push('"');
            before = ',';
        }
        // Writing to a String cannot fail.
        if let Some(bound) = bound {
            let _ = write!(self.out, "{before}le=\"{bound}\"}}");
        } else if !labels.is_empty() {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}");
    }
}

/// Escapes as the format asks (backslash, line feed, and the quote in label values). Other control characters,
/// which the format would pass, are spelled out so that a page is safe to show in a terminal.
fn escape(out: &mut String, text: &str, quoted: bool) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quoted => out.push_str("\\\""),
            control if control.is_control() => {
                let _ = write!(out, "\\\\u{:04x}", u32::from(control));
            }
            plain => out.push(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_has_help_type_and_samples() {
        let mut page = Page::default();
        let mut family = page.counter("x_total", "What it is.");
        family.count(&[], 3);
        family.count(&[("model", "a"), ("class", "2xx")], 4);
        assert_eq!(
            page.finish(),
            "# HELP x_total What it is.\n# TYPE x_total counter\nx_total 3\nx_total{model=\"a\",class=\"2xx\"} 4\n"
        );
    }

    #[test]
    fn a_histogram_ends_in_infinity_sum_and_count() {
        let mut page = Page::default();
        page.histogram("h", "H.").histogram(&[("m", "a")], &[0.01, 1.0], &[1, 2], 3.5, 4);
        let text = page.finish();
        let samples: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            samples,
            [
                "h_bucket{m=\"a\",le=\"0.01\"} 1",
                "h_bucket{m=\"a\",le=\"1\"} 2",
                "h_bucket{m=\"a\",le=\"+Inf\"} 4",
                "h_sum{m=\"a\"} 3.5",
                "h_count{m=\"a\"} 4",
            ]
        );
    }

    #[test]
    fn a_histogram_without_labels_has_only_its_bound() {
        let mut page = Page::default();
        page.histogram("h", "H.").histogram(&[], &[0.000005], &[0], 0.0, 1);
        assert!(page.finish().contains("\nh_bucket{le=\"0.000005\"} 0\n"));
    }

    #[test]
    fn label_values_cannot_break_out_of_their_quotes_or_line() {
        for (raw, written) in [
            ("plain", "plain"),
            ("a\"b", "a\\\"b"),
            ("a\\b", "a\\\\b"),
            ("a\nb", "a\\nb"),
            ("a\r\nb", "a\\\\u000d\\nb"),
            ("a\u{1b}[31m", "a\\\\u001b[31m"),
            ("a\u{0}b", "a\\\\u0000b"),
            ("\"} 1\nevil_total 9", "\\\"} 1\\nevil_total 9"),
            ("<script>", "<script>"),
            ("mod\u{e8}le", "mod\u{e8}le"),
            ("\\", "\\\\"),
            ("\\\"", "\\\\\\\""),
            ("", ""),
        ] {
            let mut page = Page::default();
            page.gauge("g", "G.").count(&[("l", raw)], 1);
            let text = page.finish();
            assert_eq!(text.lines().count(), 3, "{raw:?}");
            assert_eq!(text.lines().last().unwrap(), format!("g{{l=\"{written}\"}} 1"));
        }
    }

    #[test]
    fn every_control_character_stays_on_its_line() {
        for code in (0..32).chain([127, 0x85, 0x9b]) {
            let mut page = Page::default();
            page.gauge("g", "G.").count(&[("l", &char::from(code).to_string())], 1);
            let text = page.finish();
            assert_eq!(text.matches('\n').count(), 3, "{code}");
            assert!(!text.replace('\n', "").contains(|c: char| c.is_control()), "{code}");
        }
    }

    #[test]
    fn label_sets_never_exceed_the_cap() {
        for rows in [0, 1, 199, 200, 201, 999, 1_000, 1_001, 1_000_000] {
            for sets in [1, 4, 5, 1_000, 2_000] {
                let kept = shown(rows, sets);
                assert!(kept <= rows);
                let folded = usize::from(kept < rows);
                assert!((kept + folded) * sets <= SERIES_MAX.max(sets), "{rows} {sets}");
            }
        }
        assert_eq!(shown(1_000, 1), 1_000);
        assert_eq!(shown(1_001, 1), 999);
    }
}
