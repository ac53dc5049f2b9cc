//! A strict reader of HTTP/1.1, written apart from the gateway's own: it judges what the gateway wrote.
//!
//! It takes less than RFC 9112 allows (no folding, no chunk extensions, no trailers, no merged lengths): the gateway
//! must never need the lenient half. It reads whole buffers again and again; speed is not its business.

use std::fmt;

/// One message: a request, or an answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The first line, without CRLF.
    pub start: String,
    /// Names as written, values without surrounding blanks, in order.
    pub fields: Vec<(String, Vec<u8>)>,
    /// Decoded body.
    pub body: Vec<u8>,
    /// How the body was delimited.
    pub framing: Framing,
}

/// How a body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// There is none.
    None,
    /// Content-Length.
    Length(usize),
    /// Transfer-Encoding: chunked.
    Chunked,
    /// Until the connection ends.
    Close,
}

/// What a buffer holds so far.
#[derive(Debug)]
pub enum Step {
    /// Not even a whole head.
    Head,
    /// A head, and this much of the body.
    Body(Message),
    /// A whole message, and how many bytes it took.
    Done(Message, usize),
}

impl Message {
    /// The values of all lines of that name.
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        let same = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_slice()).collect()
    }

    /// The value of the only line of that name, empty if there is none. Two are a failure of the test.
    pub fn one(&self, name: &str) -> String {
        let all = self.all(name);
        assert!(all.len() <= 1, "more than one {name} in {self:?}");
        all.first().map_or(String::new(), |value| String::from_utf8_lossy(value).into_owned())
    }

    /// Whether there is a line of that name.
    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// The status of an answer.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// The target of a request.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or("")
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, `Null` if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or(serde_json::Value::Null)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "[{}]", self.start)?;
        for (name, value) in &self.fields {
            writeln!(out, "  {name}: {}", value.escape_ascii())?;
        }
        let shown = &self.body[..self.body.len().min(600)];
        write!(out, "  ({:?}, {} bytes) {}", self.framing, self.body.len(), shown.escape_ascii())
    }
}

/// Reads a request.
pub fn request(bytes: &[u8]) -> Result<Step, String> {
    let Some((start, fields, rest)) = head(bytes)? else {
        return Ok(Step::Head);
    };
    let parts: Vec<&str> = start.split(' ').collect();
    let [method, target, version] = parts[..] else {
        return Err(format!("request line {start:?}"));
    };
    if !method.bytes().all(is_token) || method.is_empty() {
        return Err(format!("method {method:?}"));
    }
    if !target.starts_with('/') && target != "*" {
        return Err(format!("target {target:?}"));
    }
    if version != "HTTP/1.1" {
        return Err(format!("version {version:?}"));
    }
    let hosts = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host")).count();
    if hosts != 1 {
        return Err(format!("{hosts} Host lines"));
    }
    let framing = framing(&fields)?.unwrap_or(Framing::None);
    body(start, fields, framing, bytes, rest, false)
}

/// Reads an answer to a request; `to_head` if that was HEAD, `ended` if the connection has ended after these bytes.
pub fn answer(bytes: &[u8], to_head: bool, ended: bool) -> Result<Step, String> {
    let Some((start, fields, rest)) = head(bytes)? else {
        return Ok(Step::Head);
    };
    let line = start.as_bytes();
    let version = start.starts_with("HTTP/1.1 ") || start.starts_with("HTTP/1.0 ");
    let code = line.get(9..12).is_some_and(|code| code.iter().all(u8::is_ascii_digit));
    if !version || !code || line.get(12) != Some(&b' ') {
        return Err(format!("status line {start:?}"));
    }
    let status: u16 = start[9..12].parse().map_err(|_| "status")?;
    if !(100..600).contains(&status) {
        return Err(format!("status {status}"));
    }
    let written = framing(&fields)?;
    let bodyless = to_head || status < 200 || status == 204 || status == 304;
    if (status < 200 || status == 204) && written.is_some() {
        return Err(format!("a {status} with framing"));
    }
    let framing = if bodyless { Framing::None } else { written.unwrap_or(Framing::Close) };
    body(start, fields, framing, bytes, rest, ended)
}

type Head = (String, Vec<(String, Vec<u8>)>, usize);

/// The head and where it ends.
fn head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let seen = &bytes[..end.map_or(bytes.len(), |end| end + 4)];
    for (index, byte) in seen.iter().enumerate() {
        match byte {
            b'\n' if index == 0 || seen[index - 1] != b'\r' => return Err(format!("bare LF at {index}")),
            b'\r' if seen.get(index + 1).is_some_and(|next| *next != b'\n') => {
                return Err(format!("bare CR at {index}"));
            }
            0..=8 | 11 | 12 | 14..=31 | 127 => return Err(format!("control byte {byte:#04x} at {index}")),
            _ => {}
        }
    }
    let Some(end) = end else { return Ok(None) };
    let mut lines = Vec::new();
    let mut rest = &bytes[..end + 2];
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    let start = std::str::from_utf8(lines[0]).map_err(|_| "first line is not ASCII")?;
    if start.is_empty() || !start.is_ascii() {
        return Err(format!("first line {start:?}"));
    }
    let mut fields = Vec::new();
    for line in &lines[1..] {
        let colon = line.iter().position(|byte| *byte == b':');
        let colon = colon.ok_or_else(|| format!("no colon in {}", line.escape_ascii()))?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty() || !name.iter().copied().all(is_token) {
            return Err(format!("field name {}", name.escape_ascii()));
        }
        fields.push((String::from_utf8_lossy(name).into_owned(), value.trim_ascii().to_vec()));
    }
    Ok(Some((start.to_owned(), fields, end + 4)))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What the fields say about the body, `None` if nothing.
fn framing(fields: &[(String, Vec<u8>)]) -> Result<Option<Framing>, String> {
    let all = |wanted: &str| -> Vec<&[u8]> {
        let same = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        same.map(|(_, value)| value.as_slice()).collect()
    };
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(None),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Some(Framing::Chunked)),
        ([length], []) => {
            let text = std::str::from_utf8(length).unwrap_or("");
            let number: usize = text.parse().map_err(|_| format!("length {text:?}"))?;
            let canonical = number.to_string() == text;
            canonical.then_some(Some(Framing::Length(number))).ok_or_else(|| format!("length {text:?}"))
        }
        _ => Err(format!("framing by {} lengths and {} codings", lengths.len(), codings.len())),
    }
}

fn body(
    start: String,
    fields: Vec<(String, Vec<u8>)>,
    framing: Framing,
    bytes: &[u8],
    from: usize,
    ended: bool,
) -> Result<Step, String> {
    let rest = &bytes[from..];
    let (body, taken) = match framing {
        Framing::None => (Vec::new(), Some(0)),
        Framing::Length(length) if rest.len() >= length => (rest[..length].to_vec(), Some(length)),
        Framing::Length(_) => (rest.to_vec(), None),
        Framing::Close => (rest.to_vec(), ended.then_some(rest.len())),
        Framing::Chunked => chunked(rest)?,
    };
    let message = Message { start, fields, body, framing };
    Ok(match taken {
        Some(taken) => Step::Done(message, from + taken),
        None => Step::Body(message),
    })
}

/// Decodes chunks: the body so far, and how many bytes it took if it is whole.
pub fn chunked(bytes: &[u8]) -> Result<(Vec<u8>, Option<usize>), String> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            let short =
                rest.len() <= 18 && rest.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'\r');
            return short.then_some((body, None)).ok_or_else(|| "chunk size line".to_owned());
        };
        let line = &rest[..end];
        let digits = line.strip_suffix(b"\r").ok_or("bare LF after a chunk size")?;
        let hex = !digits.is_empty() && digits.len() <= 16 && digits.iter().all(u8::is_ascii_hexdigit);
        if !hex {
            return Err(format!("chunk size {}", digits.escape_ascii()));
        }
        let text = std::str::from_utf8(digits).map_err(|_| "chunk size")?;
        let size = usize::from_str_radix(text, 16).map_err(|_| format!("chunk size {text}"))?;
        at += end + 1;
        let rest = &bytes[at..];
        if size == 0 && digits != b"0" {
            return Err(format!("last chunk {text}"));
        }
        let held = rest.len().min(size);
        body.extend_from_slice(&rest[..held]);
        let tail = &rest[held..];
        if !b"\r\n".starts_with(&tail[..tail.len().min(2)]) {
            return Err(format!("{} after a chunk of {size}", tail[..tail.len().min(8)].escape_ascii()));
        }
        if held < size || tail.len() < 2 {
            return Ok((body, None));
        }
        at += size + 2;
        if size == 0 {
            return Ok((body, Some(at)));
        }
    }
}
