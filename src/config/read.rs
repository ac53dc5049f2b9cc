//! Text to shape: TOML with the line of every key, all faults of shape and not only the first.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::file::File;
use super::problem::{Lines, Problem, Problems, written};

/// A file that has the right shape; whether it makes sense is the compiler's question.
#[derive(Clone, Debug)]
pub struct Written {
    /// Where it came from: shown in problems, and the folder in which relative paths start.
    pub path: PathBuf,
    /// What it says.
    pub file: File,
    /// Where each key stands.
    pub lines: Lines,
    /// Keys that do not exist. They are taken out so that the rest can be judged in the same run; with any of
    /// them the file is refused.
    pub unknown: Vec<Problem>,
}

impl Written {
    /// Where a key stands, as `FILE:LINE`; `None` if it was left out.
    pub fn place(&self, path: &[&str]) -> Option<String> {
        let line = self.lines.exactly(path)?;
        Some(format!("{}:{line}", self.path.display()))
    }
}

/// The largest file that is read, in bytes.
pub const CONFIG_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Faults of shape listed at most.
const PROBLEMS_MAX: usize = 100;

/// Reads the shape of a file.
///
/// # Errors
/// Every fault of syntax; or, with the syntax right, every value of a wrong type and every key that is missing
/// or does not exist.
pub fn read(path: &Path, text: &str) -> Result<Written, Problems> {
    let failed = |mut list: Vec<Problem>| {
        list.sort();
        list.dedup();
        Problems { file: path.to_owned(), list }
    };
    let (tree, errors) = DeTable::parse_recoverable(text);
    let index = LineIndex::new(text);
    if !errors.is_empty() {
        let shown = errors.iter().take(PROBLEMS_MAX).map(|error| Problem {
            line: error.span().map(|span| index.line(span.start)),
            key: String::new(),
            text: one_line(error.message()),
        });
        return Err(failed(shown.collect()));
    }
    let mut lines = Lines::default();
    collect(tree.get_ref(), &mut Vec::new(), &index, &mut lines);

    // A wrong part is reported, cut out, and the rest tried again: each round finds one fault more.
    let mut rest = tree.clone();
    let mut unknown = Vec::new();
    let mut wrong = Vec::new();
    loop {
        let error = match File::deserialize(toml::de::Deserializer::from(rest.clone())) {
            Ok(_) if !wrong.is_empty() => break,
            Ok(file) => {
                return Ok(Written { path: path.to_owned(), file, lines, unknown });
            }
            Err(error) => error,
        };
        let span = error.span();
        let found = span.as_ref().and_then(|span| find(tree.get_ref(), span));
        let problem = Problem {
            line: span.as_ref().map(|span| index.line(span.start)),
            key: found.as_ref().map_or(String::new(), |found| written(&found.steps)),
            text: explain(error.message()),
        };
        if found.is_some_and(|found| found.key) && error.message().starts_with("unknown field") {
            unknown.push(problem);
        } else {
            wrong.push(problem);
        }
        let is_cut = span.is_some_and(|span| cut(rest.get_mut(), &span));
        if !is_cut || unknown.len() + wrong.len() >= PROBLEMS_MAX {
            break;
        }
    }
    wrong.append(&mut unknown);
    Err(failed(wrong))
}

/// Where a span of the text stands in the tree.
struct Found {
    steps: Vec<String>,
    /// Whether the span is the key itself rather than its value.
    key: bool,
}

/// The key or value that stands at `span`, the innermost if several do.
fn find(table: &DeTable<'_>, span: &Range<usize>) -> Option<Found> {
    table.iter().find_map(|(key, value)| {
        let name = key.get_ref().to_string();
        if let Some(mut found) = find_value(value, span) {
            found.steps.insert(0, name);
            return Some(found);
        }
        (key.span() == *span).then(|| Found { steps: vec![name], key: true })
    })
}

fn find_value(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<Found> {
    let inside = match value.get_ref() {
        DeValue::Table(table) => find(table, span),
        DeValue::Array(list) => list.iter().enumerate().find_map(|(index, item)| {
            let mut found = find_value(item, span)?;
            found.steps.insert(0, format!("[{index}]"));
            Some(found)
        }),
        _ => None,
    };
    inside.or_else(|| (value.span() == *span).then(|| Found { steps: Vec::new(), key: false }))
}

/// Takes the key or value that stands at `span` out of the tree, the innermost if several do. Whether it was there.
fn cut(table: &mut DeTable<'_>, span: &Range<usize>) -> bool {
    if table.iter_mut().any(|(_, value)| cut_value(value.get_mut(), span)) {
        return true;
    }
    let found = table.iter().find(|(key, value)| key.span() == *span || value.span() == *span);
    let Some(name) = found.map(|(key, _)| key.get_ref().to_string()) else {
        return false;
    };
    table.remove(name.as_str()).is_some()
}

fn cut_value(value: &mut DeValue<'_>, span: &Range<usize>) -> bool {
    match value {
        DeValue::Table(table) => cut(table, span),
        DeValue::Array(list) => {
            if list.iter_mut().any(|item| cut_value(item.get_mut(), span)) {
                return true;
            }
            let before = list.len();
            *list = std::mem::replace(list, DeArray::new())
                .into_iter()
                .filter(|item| item.span() != *span)
                .collect();
            list.len() < before
        }
        _ => false,
    }
}

/// Notes the line of every key and every element of a list.
fn collect(table: &DeTable<'_>, steps: &mut Vec<String>, index: &LineIndex, lines: &mut Lines) {
    for (key, value) in table.iter() {
        steps.push(key.get_ref().to_string());
        lines.0.insert(steps.clone(), index.line(key.span().start));
        collect_value(value, steps, index, lines);
        steps.pop();
    }
}

fn collect_value(
    value: &Spanned<DeValue<'_>>,
    steps: &mut Vec<String>,
    index: &LineIndex,
    lines: &mut Lines,
) {
    match value.get_ref() {
        DeValue::Table(table) => collect(table, steps, index, lines),
        DeValue::Array(list) => {
            for (at, item) in list.iter().enumerate() {
                steps.push(format!("[{at}]"));
                lines.0.insert(steps.clone(), index.line(item.span().start));
                collect_value(item, steps, index, lines);
                steps.pop();
            }
        }
        _ => {}
    }
}

/// The parser's words in ours. What was found is named by its type only: a value in a wrong place may be a secret.
fn explain(message: &str) -> String {
    let message = one_line(message);
    for (start, what) in [("invalid type: ", "has a wrong type"), ("invalid value: ", "has a wrong form")] {
        if let Some((_, expected)) =
            message.strip_prefix(start).and_then(|rest| rest.rsplit_once(", expected "))
        {
            let expected = match expected {
                "u32" | "u64" | "usize" => "a whole number, 0 or more",
                "a map" => "a table",
                "a sequence" => "a list",
                "a boolean" => "true or false",
                other => other.strip_prefix("struct ").map_or(other, |_| "a table"),
            };
            return format!("{what}; expected {expected}");
        }
    }
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let expected = rest.split_once(", ").map_or("", |(_, expected)| expected);
        return format!("no such key; {expected}").replace('`', "");
    }
    if message.starts_with("unknown variant ") {
        let expected = message.split_once("`, ").map_or("", |(_, expected)| expected);
        return format!("no such choice; {expected}").replace('`', "\"");
    }
    if let Some(field) = message.strip_prefix("missing field ") {
        return format!("{} is missing", field.replace('`', ""));
    }
    message
}

fn one_line(message: &str) -> String {
    message.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// Byte offsets to lines.
struct LineIndex {
    /// Offset of each line feed, ascending.
    feeds: Vec<usize>,
}

impl LineIndex {
    fn new(text: &str) -> Self {
        Self { feeds: memchr::memchr_iter(b'\n', text.as_bytes()).collect() }
    }

    /// The line of an offset, from 1.
    fn line(&self, offset: usize) -> usize {
        self.feeds.partition_point(|feed| *feed < offset) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let problems = match read(Path::new("f"), text) {
            Ok(written) => Problems { file: written.path, list: written.unknown },
            Err(problems) => problems,
        };
        problems.to_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn every_fault_of_shape_is_listed_with_its_line_and_key() {
        let text = r#"listen = 8080
hello = 1
[timeouts]
head = 10
total = "30 minutes"
[backend.a]
kind = "vlm"
weight = -1
[backend.b]
url = "http://b"
urll = "http://b"
[model.m]
backends = ["a", 5, { nam = "b" }]
[shards.core.x]
[shards]
cores = "zero"
[key.k]
"#;
        let found = problems(text);
        for expected in [
            "f:1: listen: has a wrong type; expected an address like",
            "f:2: hello: no such key; expected one of listen, open,",
            "f:4: timeouts.head: has a wrong type; expected a time with its unit",
            "f:5: timeouts.total: has a wrong form; expected a time with its unit",
            "f:7: backend.a.kind: no such kind; expected one of vllm, sglang",
            "f:8: backend.a.weight: has a wrong form; expected a whole number",
            "f:11: backend.b.urll: no such key; expected one of url, api_base, kind",
            "f:13: model.m.backends[1]: has a wrong type; expected a text or a table",
            "nam: no such key; expected one of name, model, weight",
            "f:14: shards.core.x: expected the number of a core",
            "f:16: shards.cores: ",
            "f:17: key.k: sha256 is missing",
        ] {
            assert!(found.iter().any(|line| line.contains(expected)), "{expected}\n{found:#?}");
        }
    }

    #[test]
    fn every_fault_of_syntax_is_listed() {
        let found = problems("a = \n[b\nc = 1\n");
        assert!(found.len() >= 2 && found[0].starts_with("f:1: "), "{found:?}");
        assert_eq!(problems("open = true\nopen = true\n").len(), 1);
    }

    #[test]
    fn a_secret_in_the_open_is_refused_and_not_repeated() {
        for text in [
            "[backend.a]\nurl = \"http://a\"\napi_key = \"sk-very-secret\"",
            "[backend.a]\nurl = \"http://a\"\napi_key = { env = \"A\", file = \"sk-very-secret\" }",
            "[backend.a]\nurl = \"http://a\"\napi_key = { value = \"sk-very-secret\" }",
            "[backend.a]\nurl = \"http://a\"\nweight = \"sk-very-secret\"",
            "[backend.a]\nurl = \"http://a\"\nkind = \"sk-very-secret\"",
            "[backend.a]\nurl = \"http://a\"\nhealth = \"sk-very-secret\"",
            "[backend.a]\nurl = \"http://a\"\napi_key = sk-very-secret",
            "[backend.a]\nurl = \"http://a\"\n[timeouts]\nhead = \"sk-very-secret, expected x\"",
        ] {
            let found = problems(text);
            assert!(!found.is_empty(), "{text}");
            assert!(!found.iter().any(|line| line.contains("very-secret")), "{found:?}");
        }
        assert!(
            problems("[backend.a]\nurl = \"http://a\"\napi_key = \"sk-1\"")[0].contains("{ env = \"NAME\" }")
        );
    }

    #[test]
    fn unknown_keys_do_not_hide_the_rest() {
        let written = read(Path::new("f"), "opne = true\nopen = true\n").unwrap();
        assert!(written.file.open);
        assert_eq!(written.unknown.len(), 1);
    }
}
