//! Images and recordings in a request, and where images come from by URL.

use crate::policy::glob;
use crate::units::Span;
use crate::wire::json::{self, Member, ValueKind, Visit};

/// What was found. Each part is known by its type, by the media type that it names, or by the name of the member that it lies in:
/// some backends need no type.
#[derive(Default)]
pub(super) struct Media<'a> {
    pub(super) images: usize,
    pub(super) audio: usize,
    /// Where images by URL may come from; from anywhere if absent.
    hosts: Option<&'a [String]>,
    /// The first image that comes from elsewhere.
    pub(super) foreign: Option<String>,
    /// The objects and arrays that are open around the walk, the outermost first.
    open: Vec<Part>,
    /// Strings that are the URL of an image if an object around them is one.
    urls: Vec<Span>,
}

/// An object or array on the way.
#[derive(Default)]
struct Part {
    is_image: bool,
    is_audio: bool,
    /// An object is its member of this name, by which Converse says what the part is.
    holds_image: bool,
    holds_audio: bool,
    has_type: bool,
    /// Images in base64, as Ollama's messages have them.
    is_list: bool,
    /// Index of its first URL among all of them.
    urls_from: usize,
}

impl<'a> Media<'a> {
    pub(super) fn new(hosts: Option<&'a [String]>) -> Self {
        Self { hosts, ..Self::default() }
    }

    /// Reads a member of the request, in one pass.
    pub(super) fn member(&mut self, body: &[u8], member: &Member) {
        if member.kind != ValueKind::Object && member.kind != ValueKind::Array {
            return;
        }
        let base = member.value.start;
        let at = |span: Span| Span::new(span.start + base, span.end + base);
        let read = json::visit(member.value.of(body), &mut |visit| match visit {
            Visit::Opens { kind, .. } if self.open.is_empty() => self.opens(member.key.of(body), kind),
            Visit::Opens { key, kind } => self.opens(at(key).of(body), kind),
            Visit::Closes => self.closes(body),
            Visit::Scalar { key, value, kind: ValueKind::String } => {
                self.string(body, at(key).of(body), at(value));
            }
            Visit::Scalar { .. } => {}
        });
        debug_assert!(read.is_ok(), "a member was read that is not sound");
    }

    fn opens(&mut self, key: &[u8], kind: ValueKind) {
        let (depth, mut room) = (self.open.len(), [0; json::FOLDED_BYTES_MAX]);
        let (key, is_object) = (json::folded(key, &mut room), kind == ValueKind::Object);
        if let Some(around) = self.open.last_mut() {
            match key {
                b"image" => around.holds_image |= is_object,
                b"audio" => around.holds_audio |= is_object,
                b"imageurl" => around.is_image |= is_object,
                b"inputaudio" | b"audiourl" => around.is_audio |= is_object,
                _ => {}
            }
        }
        // Of the request itself, or of one of its messages.
        let is_list = key == b"images" && !is_object && (depth == 0 || depth == 2);
        self.open.push(Part { is_list, urls_from: self.urls.len(), ..Part::default() });
    }

    fn string(&mut self, body: &[u8], key: &[u8], value: Span) {
        let Some(around) = self.open.last_mut() else { return };
        self.images += usize::from(around.is_list);
        let mut room = [0; json::FOLDED_BYTES_MAX];
        let word = || json::string(value.of(body)).unwrap_or_default();
        let begins = |mime: &str, with: &str| {
            mime.get(..with.len()).is_some_and(|front| front.eq_ignore_ascii_case(with))
        };
        match json::folded(key, &mut room) {
            b"type" => {
                let word = word();
                around.is_image |= ["image_url", "input_image", "image"].contains(&&*word);
                around.is_audio |= ["input_audio", "audio_url", "audio"].contains(&&*word);
                around.has_type |= !word.is_empty();
            }
            b"mimetype" => {
                let word = word();
                around.is_image |= begins(&word, "image/");
                around.is_audio |= begins(&word, "audio/");
            }
            b"inputaudio" | b"audiourl" => around.is_audio = true,
            b"imageurl" => {
                around.is_image = true;
                if self.hosts.is_some() {
                    self.urls.push(value);
                }
            }
            b"url" | b"fileuri" | b"uri" if self.hosts.is_some() => self.urls.push(value),
            _ => {}
        }
    }

    fn closes(&mut self, body: &[u8]) {
        let Some(part) = self.open.pop() else { return };
        let is_image = part.is_image || part.holds_image && !part.has_type;
        self.images += usize::from(is_image);
        self.audio += usize::from(part.is_audio || part.holds_audio && !part.has_type);
        if is_image {
            // Each is looked at once, however many images it lies in.
            while self.urls.len() > part.urls_from {
                let url = self.urls.pop().unwrap_or_default();
                self.url(url.of(body));
            }
        }
        if self.open.is_empty() {
            self.urls.clear();
        }
    }

    fn url(&mut self, raw: &[u8]) {
        let Some(hosts) = self.hosts.filter(|_| self.foreign.is_none()) else { return };
        // What is in the body is fetched from nowhere; it may be long, and is not copied.
        if raw.get(1..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"data:")) {
            return;
        }
        let url = json::string(raw).unwrap_or_default();
        let is_allowed = |host: &str| hosts.iter().any(|pattern| glob::matches(pattern, host));
        let is_data = url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
        if !is_data && !host(&url).as_deref().is_some_and(is_allowed) {
            self.foreign = Some(url.into_owned());
        }
    }
}

/// The host of an http URL, in lower case; `None` for any other, and for one that two readers may take differently.
fn host(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return None;
    }
    if url.contains('\\') || url.chars().any(|char| char.is_whitespace() || char.is_control()) {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next()?;
    if authority.contains('@') {
        return None;
    }
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => authority.split(':').next()?,
    };
    (!host.is_empty()).then(|| host.trim_end_matches('.').to_ascii_lowercase())
}
