//! The configuration of a gateway under test.

use std::fmt::Write as _;

/// The key most tests present.
pub const K1: &str = "rw-test-key-one-0123456789abcdef";
/// The key of another tenant.
pub const K2: &str = "rw-test-key-two-fedcba9876543210";

/// A configuration, written piece by piece. Ports, driver and shards are the harness's business.
#[derive(Clone, Default)]
pub struct Config {
    top: String,
    admin: String,
    shards: String,
    tables: String,
    /// Names and texts of what lies beside it.
    pub files: Vec<(String, String)>,
    variables: Vec<(String, String)>,
    listeners: String,
}

impl Config {
    /// No backend, no model, no key.
    pub fn new() -> Self {
        Self::default()
    }

    /// One origin behind the model `m`, and two keys.
    pub fn simple(port: u16) -> Self {
        let quiet = "health = { enabled = false }";
        Self::new().backend("b1", port, quiet).model("m", &["b1"], "").key("one", K1, "").key("two", K2, "")
    }

    /// Adds top-level lines.
    pub fn top(mut self, lines: &str) -> Self {
        self.top.push_str(lines);
        self.top.push('\n');
        self
    }

    /// Adds a listener beside the one that the harness chooses.
    pub fn listener(mut self, entry: &str) -> Self {
        self.listeners.push_str(", ");
        self.listeners.push_str(entry);
        self
    }

    /// Adds lines to `[admin]`.
    pub fn admin(mut self, lines: &str) -> Self {
        self.admin.push_str(lines);
        self.admin.push('\n');
        self
    }

    /// Adds lines to `[shards]`.
    pub fn shards(mut self, lines: &str) -> Self {
        self.shards.push_str(lines);
        self.shards.push('\n');
        self
    }

    /// Adds whole tables.
    pub fn tables(mut self, text: &str) -> Self {
        self.tables.push_str(text);
        self.tables.push('\n');
        self
    }

    /// Adds a file beside the configuration.
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Adds a variable of the gateway's environment.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Those variables.
    pub fn variables(&self) -> impl Iterator<Item = (String, String)> {
        self.variables.iter().cloned()
    }

    /// Adds a backend on a loopback port.
    pub fn backend(self, name: &str, port: u16, more: &str) -> Self {
        self.tables(&format!("[backend.{name}]\nurl = \"http://127.0.0.1:{port}\"\n{more}"))
    }

    /// Adds a model served by these backends.
    pub fn model(self, name: &str, backends: &[&str], more: &str) -> Self {
        self.tables(&format!("[model.\"{name}\"]\nbackends = {backends:?}\n{more}"))
    }

    /// Adds a key.
    pub fn key(self, name: &str, secret: &str, more: &str) -> Self {
        let hex = digest_hex(secret);
        self.tables(&format!("[key.{name}]\nsha256 = \"{hex}\"\n{more}"))
    }

    /// The file.
    pub fn text(&self, port: u16, admin: u16) -> String {
        let driver = match std::env::var("RINGWAY_TEST_DRIVER") {
            Ok(driver) if !self.top.contains("driver") => format!("driver = \"{driver}\"\n"),
            _ => String::new(),
        };
        format!(
            "listen = [\"127.0.0.1:{port}\"{}]\n{driver}{}\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n{}\n\
             [shards]\npin = false\n{}\n{}",
            self.listeners, self.top, self.admin, self.shards, self.tables
        )
    }
}

/// The SHA-256 of a key as it stands in a configuration.
pub fn digest_hex(secret: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, secret.as_bytes());
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
