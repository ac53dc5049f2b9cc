//! What a request is made of, beside its texts: tools, images, audio, its size, and parameters that are clamped.

mod media;
mod tools;

use crate::units::Span;
use crate::wire::json;
use media::Media;
use tools::Tool;

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
    /// Checks a request. What is not JSON is none of its business. Keys count as their most lenient reader takes them
    /// ([`json::folded`]), and a member that is there twice counts twice: which of them a backend reads is not known.
    ///
    /// Cost: one pass over each member that a rule asks for.
    pub fn check(&self, body: &[u8]) -> Shaped {
        let mut shaped = Shaped::default();
        if let Some(most) = self.body_bytes_max.filter(|most| body.len() > *most) {
            shaped.violation = Some(format!("the body has {} bytes, at most {most} are allowed", body.len()));
        }
        let reads_tools =
            self.tools_max.is_some() || self.tools_allow.is_some() || !self.tools_deny.is_empty();
        let reads_media = self.images_max.is_some() || self.audio_max.is_some() || self.image_hosts.is_some();
        if !reads_tools && !reads_media && self.clamp.is_empty() {
            return shaped;
        }
        let mut offered = Vec::new();
        let mut seen = Media::new(self.image_hosts.as_deref());
        for member in json::members(body).map_while(Result::ok) {
            let mut room = [0; json::FOLDED_BYTES_MAX];
            match json::folded(member.key.of(body), &mut room) {
                b"tools" | b"functions" if reads_tools => tools::find(body, &member, &mut offered),
                b"toolconfig" if reads_tools => tools::of_config(body, &member, &mut offered),
                b"tools" | b"functions" | b"toolconfig" => {}
                b"messages"
                | b"input"
                | b"contents"
                | b"system"
                | b"systeminstruction"
                | b"prompt"
                | b"documents"
                | b"content"
                | b"requests"
                | b"generatecontentrequest"
                | b"image"
                | b"images" => {
                    if reads_media {
                        seen.member(body, &member);
                    }
                }
                b"generationconfig" | b"inferenceconfig" | b"options" | b"reasoning" => {
                    for inner in json::members(member.value.of(body)).map_while(Result::ok) {
                        let at = member.value.start;
                        let shift = |span: Span| Span::new(span.start + at, span.end + at);
                        self.clamp(body, shift(inner.key), shift(inner.value), &mut shaped.edits);
                    }
                }
                _ => self.clamp(body, member.key, member.value, &mut shaped.edits),
            }
        }
        shaped.violation = shaped.violation.or_else(|| self.violation(&offered, &seen));
        shaped
    }

    fn violation(&self, offered: &[Tool], seen: &Media<'_>) -> Option<String> {
        let over = |most: Option<usize>, count: usize, what: &str| {
            most.filter(|most| count > *most)
                .map(|most| format!("the request has {count} {what}, at most {most} are allowed"))
        };
        over(self.tools_max, offered.len(), "tools")
            .or_else(|| over(self.images_max, seen.images, "images"))
            .or_else(|| over(self.audio_max, seen.audio, "recordings"))
            .or_else(|| {
                let forbidden = |tool| tools::forbidden(tool, self.tools_allow.as_deref(), &self.tools_deny);
                let name = offered.iter().find_map(forbidden)?;
                Some(format!("the tool '{}' is not allowed", short(name)))
            })
            .or_else(|| {
                let url = seen.foreign.as_ref()?;
                Some(format!("the image at '{}' is not allowed", short(url)))
            })
    }

    /// Of several rows that mean one parameter the lowest counts.
    fn clamp(&self, body: &[u8], key: Span, value: Span, edits: &mut Vec<(Span, Vec<u8>)>) {
        let mut rooms = [[0; json::FOLDED_BYTES_MAX]; 2];
        let [own, theirs] = &mut rooms;
        let key = json::folded(key.of(body), own);
        let mut is_meant = |name: &str| {
            let mut quoted = Vec::new();
            json::quote(&mut quoted, name);
            !key.is_empty() && json::folded(&quoted, theirs) == key
        };
        let rows = self.clamp.iter().filter(|row| is_meant(&row.0));
        let Some(most) = rows.map(|row| row.1).reduce(f64::min) else { return };
        if exceeds(value.of(body), most) {
            edits.push((value, most.to_string().into_bytes()));
        }
    }
}

/// Whether a parameter is, or may be read as, a number above `most`: some readers take a number from a string. Other values are the
/// backend's to refuse.
fn exceeds(raw: &[u8], most: f64) -> bool {
    let over = |number: f64| number.is_nan() || number > most;
    let number = |text: &str| text.parse::<f64>().ok();
    if raw.first() != Some(&b'"') {
        return std::str::from_utf8(raw).ok().and_then(number).is_some_and(over);
    }
    let Some(text) = json::string(raw) else { return true };
    let plain: String = text.chars().filter(|char| !char.is_whitespace() && *char != '_').collect();
    // "9e9", "inf"; what has digits and is none of our numbers may be one of another reader's.
    number(&plain).map_or_else(|| plain.chars().any(char::is_numeric), over)
}

fn short(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(100).collect()
}

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

    #[track_caller]
    fn is_refused(shape: &Shape, body: &str, expected: &str) {
        let violation = shape.check(body.as_bytes()).violation.unwrap_or_default();
        assert!(violation.contains(expected), "{body}: {violation:?}");
    }

    #[test]
    fn no_tool_hides_behind_another_spelling_or_another_member() {
        let deny = Shape { tools_deny: list(&["shell", "web_search*", "googleSearch"]), ..Shape::default() };
        for (body, expected) in [
            (r#"{"t\u006fols":[{"name":"shell"}]}"#, "'shell'"),
            (r#"{"Tools":[{"Function":{"NAME":"shell"}}]}"#, "'shell'"),
            (r#"{"tools":[],"tools":[{"name":"shell"}]}"#, "'shell'"),
            (r#"{"tools":[{"name":"fine","name":"shell"}]}"#, "'shell'"),
            (r#"{"tools":[{"name":"shell","name":"fine"}]}"#, "'shell'"),
            (r#"{"tools":[{"name":"shell","tools":[]}]}"#, "'shell'"),
            (r#"{"tools":[{"name":"shell","function":{"name":"fine"}}]}"#, "'shell'"),
            (r#"{"tools":[{"name":"shell","toolChoice":{}}]}"#, "'shell'"),
            (r#"{"tools":[{"type":"custom","custom":{"name":"shell"}}]}"#, "'shell'"),
            (r#"{"tools":{"name":"shell"}}"#, "'shell'"),
            (r#"{"tools":["shell"]}"#, "'shell'"),
            (r#"{"tools":[{"type":"web_search_preview","name":"fine"}]}"#, "'web_search_preview'"),
            (
                r#"{"tools":[{"functionDeclarations":[{"name":"fine"}],"google_search":{}}]}"#,
                "'google_search'",
            ),
            (r#"{"tools":[{"codeExecution":{},"googleSearch":{}}]}"#, "'googleSearch'"),
        ] {
            is_refused(&deny, body, expected);
        }
        let allow = Shape { tools_allow: Some(list(&["search", "web_search"])), ..Shape::default() };
        is_refused(
            &allow,
            r#"{"tools":[{"type":"code_interpreter","name":"search"}]}"#,
            "'code_interpreter'",
        );
        is_refused(&allow, r#"{"tools":[{"type":"function","function":{}}]}"#, "''");
        for fine in [
            r#"{"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#,
            r#"{"tools":[{"type":"function","function":{"name":"search","strict":true}}]}"#,
            r#"{"toolConfig":{"tools":[{"toolSpec":{"name":"search"}},{"cachePoint":{"type":"default"}}],"toolChoice":{"auto":{}}}}"#,
            r#"{"toolConfig":{"functionCallingConfig":{"mode":"AUTO"},"retrievalConfig":{"languageCode":"en"}}}"#,
        ] {
            assert_eq!(allow.check(fine.as_bytes()), Shaped::default(), "{fine}");
        }
    }

    #[test]
    fn no_image_or_recording_hides_behind_another_spelling_or_a_missing_type() {
        let hosts = Some(list(&["fine.example"]));
        let shape = Shape { images_max: Some(1), audio_max: Some(0), image_hosts: hosts, ..Shape::default() };
        let image = r#"{"image_url":{"url":"data:a"}}"#;
        for (content, expected) in [
            (format!("[{image},{image}]"), "2 images"),
            (r#"[{"image_url":"data:a"},{"\u0069mage_url":"data:a"}]"#.to_owned(), "2 images"),
            (r#"[{"Type":"image_url","x":1},{"TYPE":"im\u0061ge"}]"#.to_owned(), "2 images"),
            (r#"[{"type":"text","type":"image"},{"type":"image","type":"text"}]"#.to_owned(), "2 images"),
            (r#"[{"inlineData":{"mimeType":"Image/PNG"}},{"mime_type":"image/png"}]"#.to_owned(), "2 images"),
            (r#"[{"input_audio":{"data":"AA"}}]"#.to_owned(), "1 recordings"),
            (r#"[{"audio_url":"https://fine.example/a"}]"#.to_owned(), "1 recordings"),
            (r#"[{"image_url":{"url":"https://fine.example/","url":"https://evil/"}}]"#.to_owned(), "evil"),
            (r#"[{"image_url":{"URL":"https://evil/"}}]"#.to_owned(), "evil"),
            (r#"[{"image_url":{"url":"htt\u0070s://evil/"}}]"#.to_owned(), "evil"),
        ] {
            for messages in ["messages", "Messages", r"mess\u0061ges"] {
                is_refused(
                    &shape,
                    &format!(r#"{{"{messages}":[{{"role":"user","content":{content}}}]}}"#),
                    expected,
                );
            }
        }
        is_refused(
            &shape,
            r#"{"messages":[{"role":"user","content":"x","images":["AA","BB"]}]}"#,
            "2 images",
        );
        is_refused(&shape, r#"{"prompt":"x","images":["AA","BB"]}"#, "2 images");
        is_refused(&shape, &format!(r#"{{"messages":[{image}],"messages":[{image}]}}"#), "2 images");
        let one = format!(
            r#"{{"messages":[{{"content":[{image},{{"type":"file","file":{{"url":"https://evil/"}}}}]}}]}}"#
        );
        assert_eq!(shape.check(one.as_bytes()).violation, None);
    }

    #[test]
    fn a_deep_request_is_read_to_its_depth() {
        let (depth, url) = (400, "x".repeat(1 << 20));
        let (open, close) = (r#"{"type":"image","a":"#.repeat(depth), "}".repeat(depth));
        let body = format!(r#"{{"messages":{open}{{"url":"https://evil/{url}"}}{close}}}"#);
        let shape = Shape { image_hosts: Some(list(&["fine.example"])), ..Shape::default() };
        is_refused(&shape, &body, "evil");
    }

    #[test]
    fn no_parameter_escapes_its_clamp_and_of_two_the_tighter_counts() {
        let clamp =
            vec![("max_tokens".into(), 100.0), ("maxTokens".into(), 50.0), ("temperature".into(), 1.0)];
        let shape = Shape { clamp, ..Shape::default() };
        for (body, expected) in [
            (r#"{"max_tokens":9000}"#, r#"{"max_tokens":50}"#),
            (r#"{"m\u0061x_tokens":9000,"MAX_TOKENS":9000}"#, r#"{"m\u0061x_tokens":50,"MAX_TOKENS":50}"#),
            (r#"{"temperature":2,"temperature":3}"#, r#"{"temperature":1,"temperature":1}"#),
            (r#"{"temperature":"1.5"}"#, r#"{"temperature":1}"#),
            (r#"{"temperature":" 1_5 "}"#, r#"{"temperature":1}"#),
            (r#"{"temperature":"\u0039e9"}"#, r#"{"temperature":1}"#),
            (
                r#"{"temperature":"inf","Options":{"Temperature":"nan"}}"#,
                r#"{"temperature":1,"Options":{"Temperature":1}}"#,
            ),
            (r#"{"temperature":"0x7"}"#, r#"{"temperature":1}"#),
            (r#"{"generation_config":{"max_tokens":"60"}}"#, r#"{"generation_config":{"max_tokens":50}}"#),
            (r#"{"temperature":"0.5","max_tokens":"40"}"#, r#"{"temperature":"0.5","max_tokens":"40"}"#),
        ] {
            let shaped = shape.check(body.as_bytes());
            let edits: Vec<(Span, &[u8])> = shaped.edits.iter().map(|(span, new)| (*span, &**new)).collect();
            let mut out = Vec::new();
            json::splice(&mut out, body.as_bytes(), &edits);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{body}");
        }
    }
}
