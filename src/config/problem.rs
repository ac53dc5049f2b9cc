//! What is wrong with a configuration: all of it, each with file, line, key and the expected form.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

/// One thing to mend.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// Line in the file, from 1; absent if nothing in the file stands for it.
    pub line: Option<usize>,
    /// The key as it would be written in the file, empty for the file as a whole.
    pub key: String,
    /// What is wrong and what is expected; never a secret.
    pub text: String,
}

impl Problem {
    /// Whether it is about the table with these steps, or something in it.
    pub fn is_at(&self, path: &[&str]) -> bool {
        let rest = self.key.strip_prefix(&written(path));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }
}

/// Everything found wrong with one file, in the order of its lines. Never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problems {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub list: Vec<Problem>,
}

impl Problems {
    /// A file of which nothing could be read.
    pub fn of_file(file: &Path, text: impl Into<String>) -> Self {
        let problem = Problem { line: None, key: String::new(), text: text.into() };
        Self { file: file.to_owned(), list: vec![problem] }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            write!(out, "{}", self.file.display())?;
            if let Some(line) = problem.line {
                write!(out, ":{line}")?;
            }
            if !problem.key.is_empty() {
                write!(out, ": {}", problem.key)?;
            }
            write!(out, ": {}", problem.text)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Where each key stands: lines from 1, by the steps of its path (`["backend", "gpu-a", "url"]`; elements of a
/// list are `"[0]"`).
#[derive(Clone, Default, Debug)]
pub struct Lines(pub(super) HashMap<Vec<String>, usize>);

impl Lines {
    /// The line of a key that was written.
    pub(super) fn exactly(&self, path: &[&str]) -> Option<usize> {
        let path: Vec<String> = path.iter().map(|&step| step.to_owned()).collect();
        self.0.get(&path).copied()
    }

    /// The line of a key, or of the innermost table around it that was written.
    fn of(&self, path: &[&str]) -> Option<usize> {
        let mut path: Vec<String> = path.iter().map(|&step| step.to_owned()).collect();
        while !path.is_empty() {
            if let Some(line) = self.0.get(&path) {
                return Some(*line);
            }
            path.pop();
        }
        None
    }
}

/// Collects what is found while a file is read and compiled.
#[derive(Debug)]
pub(super) struct Report<'a> {
    lines: &'a Lines,
    pub(super) problems: Vec<Problem>,
    /// Allowed, but worth a look.
    pub(super) notes: Vec<String>,
    /// The issuer of each key that one has made: what is wrong with such a key stands in the issuer's table.
    pub(super) issued: BTreeMap<String, String>,
}

impl<'a> Report<'a> {
    pub(super) fn new(lines: &'a Lines) -> Self {
        Self { lines, problems: Vec::new(), notes: Vec::new(), issued: BTreeMap::new() }
    }

    /// One more thing to mend, at the key with these steps.
    pub(super) fn problem(&mut self, path: &[&str], text: impl Into<String>) {
        let mut path = path.to_vec();
        if let ["key", name, ..] = path[..]
            && let Some(issuer) = self.issued.get(name)
        {
            path[..2].copy_from_slice(&["issuer", issuer]);
        }
        self.problems.push(Problem { line: self.lines.of(&path), key: written(&path), text: text.into() });
    }

    /// The value, or a problem at that key and nothing.
    pub(super) fn take<T, E: Into<String>>(&mut self, path: &[&str], result: Result<T, E>) -> Option<T> {
        result.map_err(|text| self.problem(path, text)).ok()
    }

    /// Something allowed that the operator should know.
    pub(super) fn note(&mut self, text: String) {
        self.notes.push(text);
    }
}

/// A path as it would be written in the file: `model."llama-3.3".backends[0]`.
pub(super) fn written(path: &[impl AsRef<str>]) -> String {
    let mut key = String::new();
    for step in path {
        let step = step.as_ref();
        let bare = !step.is_empty()
            && step.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !key.is_empty() && !step.starts_with('[') {
            key.push('.');
        }
        if bare || step.starts_with('[') {
            key.push_str(step);
        } else {
            key.push_str(&format!("{step:?}"));
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_as_it_would_be_written() {
        assert_eq!(written(&["model", "llama-3.3", "backends", "[0]"]), "model.\"llama-3.3\".backends[0]");
        assert_eq!(written(&["backend", "gpu-a"]), "backend.gpu-a");
    }

    #[test]
    fn a_key_that_is_missing_is_reported_at_the_table_around_it() {
        let lines = Lines(HashMap::from([(vec!["backend".to_owned(), "a".to_owned()], 7)]));
        assert_eq!(lines.of(&["backend", "a", "url"]), Some(7));
        assert_eq!(lines.of(&["model"]), None);
    }
}
