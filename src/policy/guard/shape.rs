//! What a request is made of, beside its texts: tools, images, audio, its size, and parameters that are clamped.

use std::borrow::Cow;

use crate::policy::glob;
use crate::units::Span;
use crate::wire::json::{self, ValueKind};

/// What a request may be made of.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Shape {
    /// Bytes of its body.
    pub body_bytes_max: Option<usize>,
    /// Tools that it offers.
    pub tools_max: Option<usize>,
    /// The names of tools that it may offer; all if absent.
    pub tools_allow: Option<Vec<String>>,
    /// The names of tools that it may not offer.
    pub tools_deny: Vec<String>,
    /// Images in it.
    pub images_max: Option<usize>,
    /// Recordings in it.
    pub audio_max: Option<usize>,
    /// The hosts of images that are given by their URL; all if absent. Images in the body are not concerned.
    pub image_hosts: Option<Vec<String>>,
    /// Parameters, and the largest number each may have. Larger ones are replaced.
    pub clamp: Vec<(Box<str>, f64)>,
}

/// What a shape says of a request.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Shaped {
    /// Why it is not allowed.
    pub violation: Option<String>,
    /// Parameters that are too large, and what stands instead.
    pub edits: Vec<(Span, Vec<u8>)>,
}

impl Shape {
    /// Checks a request. What is not JSON is none of its business.
    pub fn check(&self, body: &[u8]) -> Shaped {
        let mut shaped = Shaped::default();
        if let Some(most) = self.body_bytes_max.filter(|most| body.len() > *most) {
            shaped.violation = Some(format!("the body has {} bytes, at most {most} are allowed", body.len()));
        }
        let mut seen = Seen::default();
        for member in json::members(body).map_while(Result::ok) {
            let key = inside(member.key.of(body));
            match key {
                b"tools" | b"functions" | b"toolConfig" | b"tool_config" => {
                    tools(body, member.value, member.kind, &mut seen.tools, 0);
                }
                b"messages" | b"input" | b"contents" | b"system" | b"prompt" | b"documents" | b"image" => {
                    let place = Place { span: member.value, kind: member.kind, depth: 0 };
                    media(body, place, &mut seen);
                }
                b"generationConfig" | b"generation_config" | b"inferenceConfig" | b"options"
                | b"reasoning" => {
                    for inner in json::members(member.value.of(body)).map_while(Result::ok) {
                        let (key, at) = (inner.key, member.value.start);
                        let shift = |span: Span| Span::new(span.start + at, span.end + at);
                        self.clamp(body, shift(key), shift(inner.value), &mut shaped.edits);
                    }
                }
                _ => self.clamp(body, member.key, member.value, &mut shaped.edits),
            }
        }
        shaped.violation = shaped.violation.or_else(|| self.violation(&seen));
        shaped
    }

    fn violation(&self, seen: &Seen) -> Option<String> {
        let over = |most: Option<usize>, count: usize, what: &str| {
            most.filter(|most| count > *most)
                .map(|most| format!("the request has {count} {what}, at most {most} are allowed"))
        };
        let is_in = |list: &[String], name: &str| list.iter().any(|pattern| glob::matches(pattern, name));
        let forbids = |name: &&String| {
            is_in(&self.tools_deny, name) || self.tools_allow.as_ref().is_some_and(|list| !is_in(list, name))
        };
        let foreign = |url: &&String| {
            let host = host(url);
            self.image_hosts
                .as_ref()
                .is_some_and(|list| !host.as_deref().is_some_and(|host| is_in(list, host)))
        };
        over(self.tools_max, seen.tools.len(), "tools")
            .or_else(|| over(self.images_max, seen.images, "images"))
            .or_else(|| over(self.audio_max, seen.audio, "recordings"))
            .or_else(|| {
                seen.tools
                    .iter()
                    .find(forbids)
                    .map(|name| format!("the tool '{}' is not allowed", short(name)))
            })
            .or_else(|| {
                seen.urls
                    .iter()
                    .find(foreign)
                    .map(|url| format!("the image at '{}' is not allowed", short(url)))
            })
    }

    fn clamp(&self, body: &[u8], key: Span, value: Span, edits: &mut Vec<(Span, Vec<u8>)>) {
        let Some((_, most)) = self.clamp.iter().find(|row| json::key_is(key.of(body), &row.0)) else {
            return;
        };
        let number = std::str::from_utf8(value.of(body)).ok().and_then(|text| text.parse::<f64>().ok());
        if number.is_some_and(|number| number > *most) {
            edits.push((value, most.to_string().into_bytes()));
        }
    }
}

/// What was found in a request.
#[derive(Default)]
struct Seen {
    tools: Vec<String>,
    images: usize,
    audio: usize,
    /// Of images.
    urls: Vec<String>,
}

#[derive(Clone, Copy)]
struct Place {
    span: Span,
    kind: ValueKind,
    depth: u8,
}

/// The names of the tools in a value: those of functions, or the type of a tool that the provider has.
fn tools(body: &[u8], span: Span, kind: ValueKind, names: &mut Vec<String>, depth: u8) {
    let at = |inner: Span| Span::new(inner.start + span.start, inner.end + span.start);
    if depth > TOOLS_DEPTH_MAX {
        return;
    }
    if kind == ValueKind::Array {
        for (inner, kind) in json::elements(span.of(body)).map_while(Result::ok) {
            tools(body, at(inner), kind, names, depth + 1);
        }
        return;
    }
    let (mut name, mut own_type, mut first, mut is_list) = (None, None, None, false);
    for member in json::members(span.of(body)).map_while(Result::ok) {
        let (key, value) = (inside(at(member.key).of(body)), at(member.value));
        match key {
            b"name" if member.kind == ValueKind::String => {
                name = json::string(value.of(body)).map(Cow::into_owned)
            }
            b"type" => own_type = json::string(value.of(body)).map(Cow::into_owned),
            b"function" | b"toolSpec" | b"tool_spec" if member.kind == ValueKind::Object => {
                is_list = true;
                tools(body, value, member.kind, names, depth + 1);
            }
            b"tools" | b"functionDeclarations" | b"function_declarations" => {
                is_list = true;
                tools(body, value, member.kind, names, depth + 1);
            }
            // Only how tools are chosen.
            b"toolChoice" | b"functionCallingConfig" | b"function_calling_config" => is_list = true,
            _ => first = first.or_else(|| Some(String::from_utf8_lossy(key).into_owned())),
        }
    }
    if !is_list && kind == ValueKind::Object {
        names.extend(name.or(own_type).or(first));
    }
}

/// Counts images and recordings in a value, and notes the URLs of images.
fn media(body: &[u8], place: Place, seen: &mut Seen) {
    if place.depth > DEPTH_MAX {
        return;
    }
    let at = |inner: Span| Span::new(inner.start + place.span.start, inner.end + place.span.start);
    let below = |span: Span, kind: ValueKind| Place { span: at(span), kind, depth: place.depth + 1 };
    match place.kind {
        ValueKind::Array => {
            for (span, kind) in json::elements(place.span.of(body)).map_while(Result::ok) {
                media(body, below(span, kind), seen);
            }
        }
        ValueKind::Object => {
            let members: Vec<_> = json::members(place.span.of(body)).map_while(Result::ok).collect();
            let of = |names: &[&[u8]]| {
                let named = |member: &&json::Member| names.contains(&inside(at(member.key).of(body)));
                members.iter().find(named).copied()
            };
            let text = |names: &[&[u8]]| of(names).and_then(|member| json::string(at(member.value).of(body)));
            let own_type = text(&[b"type"]).unwrap_or_default();
            let mime = text(&[b"mimeType", b"mime_type"]).unwrap_or_default();
            // Converse names the kind by the member itself.
            let is_image =
                ["image_url", "input_image", "image"].contains(&&*own_type) || mime.starts_with("image/");
            let is_audio = ["input_audio", "audio"].contains(&&*own_type) || mime.starts_with("audio/");
            let bare = |name: &[u8]| {
                of(&[name]).is_some_and(|one| one.kind == ValueKind::Object) && own_type.is_empty()
            };
            seen.images += usize::from(is_image || bare(b"image"));
            seen.audio += usize::from(is_audio || bare(b"audio"));
            if is_image || bare(b"image") {
                urls(body, place, seen);
            }
            for member in &members {
                if member.kind != ValueKind::String {
                    media(body, below(member.value, member.kind), seen);
                }
            }
        }
        _ => {}
    }
}

/// The URLs in an image, however deep.
fn urls(body: &[u8], place: Place, seen: &mut Seen) {
    let at = |inner: Span| Span::new(inner.start + place.span.start, inner.end + place.span.start);
    for member in json::members(place.span.of(body)).map_while(Result::ok) {
        let key = inside(at(member.key).of(body));
        match member.kind {
            ValueKind::Object if place.depth < DEPTH_MAX => {
                let inner = Place { span: at(member.value), kind: member.kind, depth: place.depth + 1 };
                urls(body, inner, seen);
            }
            ValueKind::String
                if [&b"url"[..], b"image_url", b"fileUri", b"file_uri", b"uri"].contains(&key) =>
            {
                let url = json::string(at(member.value).of(body)).unwrap_or_default();
                // What is in the body is fetched from nowhere.
                let is_data = url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
                if !is_data {
                    seen.urls.push(url.into_owned());
                }
            }
            _ => {}
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

fn inside(key: &[u8]) -> &[u8] {
    key.get(1..key.len().saturating_sub(1)).unwrap_or_default()
}

fn short(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(100).collect()
}

const DEPTH_MAX: u8 = 32;
const TOOLS_DEPTH_MAX: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn tools_are_known_in_every_dialect() {
        let shape = Shape {
            tools_deny: list(&["shell*", "web_search*", "google*"]),
            tools_max: Some(2),
            ..Shape::default()
        };
        for (body, expected) in [
            (r#"{"tools":[{"type":"function","function":{"name":"shell"}}]}"#, "'shell'"),
            (r#"{"tools":[{"type":"function","name":"shell"}]}"#, "'shell'"),
            (r#"{"tools":[{"type":"web_search_preview"}]}"#, "'web_search_preview'"),
            (r#"{"tools":[{"name":"shell_run","input_schema":{"name":"x"}}]}"#, "'shell_run'"),
            (r#"{"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#, "'web_search'"),
            (r#"{"tools":[{"functionDeclarations":[{"name":"a"},{"name":"shell"}]}]}"#, "'shell'"),
            (r#"{"tools":[{"googleSearch":{}}]}"#, "'googleSearch'"),
            (
                r#"{"toolConfig":{"tools":[{"toolSpec":{"name":"shell"}}],"toolChoice":{"auto":{}}}}"#,
                "'shell'",
            ),
            (r#"{"functions":[{"name":"sh\u0065ll"}]}"#, "'shell'"),
            (r#"{"tools":[{"name":"a"},{"name":"b"},{"name":"c"}]}"#, "3 tools"),
        ] {
            let violation = shape.check(body.as_bytes()).violation.unwrap_or_default();
            assert!(violation.contains(expected), "{body}: {violation}");
        }
        let fine =
            r#"{"tools":[{"type":"function","function":{"name":"search","parameters":{"name":"shell"}}}]}"#;
        assert_eq!(shape.check(fine.as_bytes()), Shaped::default());
        let only = Shape { tools_allow: Some(list(&["search_*"])), ..Shape::default() };
        assert_eq!(only.check(br#"{"tools":[{"name":"search_web"}]}"#).violation, None);
        assert!(only.check(br#"{"tools":[{"name":"research"}]}"#).violation.is_some());
        assert_eq!(only.check(br#"{"messages":[]}"#).violation, None);
    }

    #[test]
    fn images_and_recordings_are_counted_in_every_dialect() {
        let shape = Shape { images_max: Some(1), audio_max: Some(0), ..Shape::default() };
        for (body, expected) in [
            (
                r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"data:a"}},{"type":"image_url","image_url":{"url":"data:b"}}]}]}"#,
                "2 images",
            ),
            (
                r#"{"input":[{"content":[{"type":"input_image","image_url":"https://a/b"},{"type":"input_image","image_url":"https://a/b"}]}]}"#,
                "2 images",
            ),
            (
                r#"{"messages":[{"content":[{"type":"tool_result","content":[{"type":"image","source":{"type":"base64"}},{"type":"image","source":{}}]}]}]}"#,
                "2 images",
            ),
            (
                r#"{"contents":[{"parts":[{"inlineData":{"mimeType":"image/png"}},{"inline_data":{"mime_type":"image/png"}}]}]}"#,
                "2 images",
            ),
            (
                r#"{"messages":[{"content":[{"image":{"format":"png"}},{"image":{"format":"png"}}]}]}"#,
                "2 images",
            ),
            (r#"{"messages":[{"content":[{"type":"input_audio","input_audio":{}}]}]}"#, "1 recordings"),
        ] {
            let violation = shape.check(body.as_bytes()).violation.unwrap_or_default();
            assert!(violation.contains(expected), "{body}: {violation}");
        }
        let one = br#"{"messages":[{"content":[{"type":"text","text":"{\"type\":\"image\"}"},{"type":"image","source":{}}]}]}"#;
        assert_eq!(shape.check(one).violation, None);
    }

    #[test]
    fn images_come_from_hosts_that_are_listed() {
        let shape = Shape { image_hosts: Some(list(&["*.example.com", "cdn.example"])), ..Shape::default() };
        let of = |url: &str| {
            let url = serde_json::Value::from(url);
            format!(r#"{{"messages":[{{"content":[{{"type":"image_url","image_url":{{"url":{url}}}}}]}}]}}"#)
        };
        for (url, is_allowed) in [
            ("https://img.example.com/a.png", true),
            ("http://CDN.example:8080/a", true),
            ("data:image/png;base64,AAAA", true),
            ("https://example.com.evil/a", false),
            ("https://img.example.com@evil/a", false),
            ("https://evil/https://img.example.com", false),
            ("https://evil?.example.com", false),
            ("https://evil\\.example.com/", false),
            ("https://evil#.example.com", false),
            ("file:///etc/passwd", false),
            ("gs://bucket/a", false),
            ("http://169.254.169.254/latest", false),
            ("http://[::1]/", false),
            ("//img.example.com/a", false),
        ] {
            assert_eq!(shape.check(of(url).as_bytes()).violation.is_none(), is_allowed, "{url}");
        }
    }

    #[test]
    fn parameters_are_clamped_in_place_and_a_body_has_its_bound() {
        let clamp =
            vec![("max_tokens".into(), 100.0), ("temperature".into(), 1.0), ("maxOutputTokens".into(), 50.0)];
        let shape = Shape { clamp, body_bytes_max: Some(200), ..Shape::default() };
        let edited = |body: &str| {
            let shaped = shape.check(body.as_bytes());
            let edits: Vec<(Span, &[u8])> = shaped.edits.iter().map(|(span, new)| (*span, &**new)).collect();
            let mut out = Vec::new();
            json::splice(&mut out, body.as_bytes(), &edits);
            String::from_utf8(out).expect("text")
        };
        assert_eq!(
            edited(r#"{"max_tokens": 9000, "temperature":1.5,"x":{"max_tokens":9000}}"#),
            r#"{"max_tokens": 100, "temperature":1,"x":{"max_tokens":9000}}"#
        );
        assert_eq!(
            edited(r#"{"generationConfig":{"maxOutputTokens":1e9}}"#),
            r#"{"generationConfig":{"maxOutputTokens":50}}"#
        );
        for same in [r#"{"max_tokens":100}"#, r#"{"max_tokens":null,"temperature":"hot"}"#] {
            assert_eq!(edited(same), same);
        }
        assert!(shape.check(&[b' '; 201]).violation.is_some());
    }
}
