//! Traces: when real users asked for how much, with which prefixes in common.

use serde::Deserialize;
use std::fs::File;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;

/// One line of a trace, in Mooncake's form.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TraceRequest {
    /// When it was sent, in ms from the start of the trace.
    pub timestamp: f64,
    /// Prompt tokens.
    pub input_length: usize,
    /// Tokens generated.
    pub output_length: u64,
    /// Names of the prompt's blocks; equal names at the start are a shared prefix.
    #[serde(default)]
    pub hash_ids: Vec<u64>,
}

/// A trace being read; only the line under way is in memory.
#[derive(Debug)]
pub struct Trace {
    lines: Lines<BufReader<File>>,
    number: usize,
}

impl Trace {
    /// Opens a JSONL file.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { lines: BufReader::new(file).lines(), number: 0 })
    }
}

impl Iterator for Trace {
    type Item = Result<TraceRequest, String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let line = self.lines.next()?;
            self.number += 1;
            let number = self.number;
            match line {
                Ok(line) if line.trim().is_empty() => {}
                Ok(line) => {
                    let parsed = serde_json::from_str(&line);
                    return Some(parsed.map_err(|error| format!("trace line {number}: {error}")));
                }
                Err(error) => return Some(Err(format!("trace line {number}: {error}"))),
            }
        }
    }
}
