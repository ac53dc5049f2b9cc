//! Text as it stands between the quotes of a JSON string.

use std::borrow::Cow;

use crate::wire::json;

/// The inside of a JSON string, its escapes as they were written. It can be copied between the quotes of another one.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Text<'a>(Cow<'a, [u8]>);

impl<'a> Text<'a> {
    /// The text of a JSON string with its quotes; `None` for any other value.
    pub fn of(value: &'a [u8]) -> Option<Self> {
        Some(Self::escaped(value.strip_prefix(b"\"")?.strip_suffix(b"\"")?))
    }

    /// What stands between the quotes of a JSON string.
    pub const fn escaped(inside: &'a [u8]) -> Self {
        Self(Cow::Borrowed(inside))
    }

    /// A text that is not escaped yet.
    pub fn plain(text: &str) -> Text<'static> {
        let mut inside = Vec::with_capacity(text.len());
        json::escape(&mut inside, text);
        Text(Cow::Owned(inside))
    }

    /// A text that is escaped already, and its own.
    pub const fn owned(inside: Vec<u8>) -> Text<'static> {
        Text(Cow::Owned(inside))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What stands between the quotes.
    pub fn inside(&self) -> &[u8] {
        &self.0
    }

    /// The text without its escapes; `None` for what no two readers agree on (`json::string`).
    pub fn to_plain(&self) -> Option<Cow<'_, str>> {
        if !self.0.contains(&b'\\') {
            return std::str::from_utf8(&self.0).ok().map(Cow::Borrowed);
        }
        let quoted = [b"\"", &*self.0, b"\""].concat();
        json::string(&quoted).map(|text| Cow::Owned(text.into_owned()))
    }

    /// What it reads, to be found by: the text without its escapes, or as it is where no two readers agree.
    pub fn key(&self) -> Cow<'a, [u8]> {
        match self.to_plain() {
            Some(Cow::Owned(plain)) => Cow::Owned(plain.into_bytes()),
            _ => self.0.clone(),
        }
    }

    /// Whether it reads `plain`, a text without anything to escape.
    pub fn is(&self, plain: &str) -> bool {
        &*self.0 == plain.as_bytes() || self.0.contains(&b'\\') && self.to_plain().as_deref() == Some(plain)
    }

    /// The media type and the base64 of a data URL (RFC 2397); `None` for any other URL, and for one that is not base64.
    pub fn data_url(&self) -> Option<(Text<'a>, Text<'a>)> {
        let Cow::Borrowed(inside) = self.0 else { return None };
        let rest = inside.strip_prefix(b"data:")?;
        let comma = rest.iter().take(MEDIA_TYPE_BYTES_MAX).position(|byte| *byte == b',')?;
        let media_type = rest[..comma].strip_suffix(b";base64")?;
        let end = media_type.iter().position(|byte| *byte == b';').unwrap_or(media_type.len());
        Some((Self::escaped(&media_type[..end]), Self::escaped(&rest[comma + 1..])))
    }

    /// Appends it to `out` as a JSON string with its quotes.
    pub fn quote(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(&self.0);
        out.push(b'"');
    }

    /// The same text, its own.
    pub fn into_owned(self) -> Text<'static> {
        Text(Cow::Owned(self.0.into_owned()))
    }

    /// Appends `more`.
    pub fn push(&mut self, more: &Text<'_>) {
        self.0.to_mut().extend_from_slice(&more.0);
    }
}

/// Longest media type of a data URL, with its parameters.
const MEDIA_TYPE_BYTES_MAX: usize = 256;

impl std::fmt::Debug for Text<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "\"{}\"", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stay_as_they_were_written() {
        let text = Text::of(br#""a\u00e9\n\"b""#).unwrap();
        assert_eq!(text.inside(), br#"a\u00e9\n\"b"#);
        assert_eq!(text.to_plain().unwrap(), "aé\n\"b");
        let mut out = Vec::new();
        text.quote(&mut out);
        assert_eq!(out, br#""a\u00e9\n\"b""#);
        for other in [&b"1"[..], b"null", b"\"", b"", b"{}"] {
            assert_eq!(Text::of(other), None);
        }
    }

    #[test]
    fn a_data_url_is_its_media_type_and_its_base64() {
        let of = |url: &'static str| {
            let parts = Text::escaped(url.as_bytes()).data_url()?;
            Some((String::from_utf8_lossy(parts.0.inside()).into_owned(), parts.1.inside().to_vec()))
        };
        let expected = |kind: &str, data: &[u8]| Some((kind.to_owned(), data.to_vec()));
        assert_eq!(of("data:image/png;base64,iVBO"), expected("image/png", b"iVBO"));
        assert_eq!(of("data:text/plain;charset=utf-8;base64,QQ=="), expected("text/plain", b"QQ=="));
        for url in
            ["https://a.example/x.png", "data:,hello", "data:text/plain,base64,", "data:image/png;base64"]
        {
            assert_eq!(of(url), None, "{url}");
        }
    }

    #[test]
    fn a_text_is_what_it_reads() {
        assert!(Text::escaped(b"user").is("user") && Text::escaped(br"\u0075ser").is("user"));
        assert!(!Text::escaped(b"users").is("user") && !Text::escaped(br"\ud83d").is("user"));
        assert_eq!(Text::plain("a\"b\n").inside(), br#"a\"b\n"#);
    }
}
