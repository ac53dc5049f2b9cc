//! Vectors between two APIs that say the same in different words: texts in, lists of numbers out.
//!
//! Numbers are copied as they were written. What other tasks have no word for (images, tokens instead of text) is refused by name.

mod ollama;

use super::gemini::decode::texts;
use super::neutral::{Context, Json, Losses, Object, Target, Text, malformed, unsupported};
use super::usage::Usage;
use super::{Api, Dialect, Unfit, number};
use crate::error::Fault;
use crate::wire::json::{self, ValueKind};

/// The APIs of backends by which vectors are asked for, in the order in which they are tried.
pub(super) const BACKENDS: [Api; 3] = [Api::Embeddings, Api::BatchEmbedContents, Api::OllamaEmbed];

/// Whether a client of this API can be served by another one.
pub(super) fn is_client(api: Api) -> bool {
    matches!(
        api,
        Api::Embeddings
            | Api::EmbedContent
            | Api::BatchEmbedContents
            | Api::OllamaEmbed
            | Api::OllamaEmbeddings
    )
}

/// What a request asks for.
#[derive(Default)]
struct Wanted<'a> {
    inputs: Vec<Text<'a>>,
    dimensions: Option<u64>,
    losses: Losses,
}

/// What a response brings.
struct Vectors<'a> {
    /// Lists of numbers, in the order of the inputs.
    values: Vec<Json<'a>>,
    usage: Option<Usage>,
}

/// Appends the body of a client's request as the backend's API has it.
///
/// # Errors
/// `BodyMalformed`, `MemberUnsupported`: the client's to correct.
pub(super) fn request(
    client: Api,
    backend: Api,
    body: &[u8],
    target: &Target<'_>,
    out: &mut Vec<u8>,
) -> Result<Losses, Fault> {
    let wanted = match client.dialect() {
        Dialect::Google => of_google(client, body)?,
        Dialect::Ollama => ollama::wanted(client, body)?,
        _ => of_openai(body)?,
    };
    match backend.dialect() {
        Dialect::Google => to_google(&wanted, target, out),
        // In words that OpenAI's API has, too.
        _ => to_openai(&wanted, target, out),
    }
    Ok(wanted.losses)
}

/// Appends a backend's whole response as the client's API has it.
///
/// # Errors
/// It is no response of the backend's API.
pub(super) fn response(
    client: Api,
    backend: Api,
    context: &Context,
    body: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Unfit> {
    let vectors = match backend.dialect() {
        Dialect::Google => from_google(body)?,
        Dialect::Ollama => ollama::vectors(body)?,
        _ => from_openai(body)?,
    };
    match client {
        Api::EmbedContent => one_for_google(&vectors, out),
        Api::OllamaEmbed => {
            ollama::all(&vectors, context, out);
            Ok(())
        }
        Api::OllamaEmbeddings => ollama::one(&vectors, out),
        Api::BatchEmbedContents => {
            all_for_google(&vectors, out);
            Ok(())
        }
        _ => {
            for_openai(&vectors, context, out);
            Ok(())
        }
    }
}

fn read<'a>(value: Json<'a>, at: &str) -> Result<Object<'a>, Fault> {
    Object::read(value).map_err(|bad| malformed(format!("'{at}': {}", bad.reason)))
}

fn of_openai(body: &[u8]) -> Result<Wanted<'_>, Fault> {
    let object = read(body, "the body")?;
    let mut wanted = Wanted::default();
    for (key, value, kind) in object.iter() {
        match key {
            b"\"model\"" | b"\"encoding_format\"" => {}
            b"\"dimensions\"" => {
                let dimensions = json::unsigned(value);
                wanted.dimensions =
                    Some(dimensions.ok_or_else(|| malformed("'dimensions' has to be a whole number"))?);
            }
            b"\"input\"" if kind == ValueKind::String => wanted.inputs.extend(Text::of(value)),
            b"\"input\"" => {
                for element in object.elements("input") {
                    let (value, _) = element.map_err(|bad| malformed(format!("'input': {}", bad.reason)))?;
                    let text = Text::of(value);
                    let why = "has to be text for the backends of this model";
                    wanted.inputs.push(text.ok_or_else(|| unsupported("input", why))?);
                }
            }
            _ => wanted.losses.note_key(key),
        }
    }
    match wanted.inputs.is_empty() {
        true => Err(malformed("'input' has to be a string or a list of strings")),
        false => Ok(wanted),
    }
}

fn of_google(client: Api, body: &[u8]) -> Result<Wanted<'_>, Fault> {
    let mut wanted = Wanted::default();
    if client == Api::EmbedContent {
        one_of_google(body, "the body", &mut wanted)?;
        return Ok(wanted);
    }
    let object = read(body, "the body")?;
    for (index, element) in object.elements("requests").enumerate() {
        let at = format!("requests[{index}]");
        let (value, _) = element.map_err(|bad| malformed(format!("'{at}': {}", bad.reason)))?;
        one_of_google(value, &at, &mut wanted)?;
    }
    match wanted.inputs.is_empty() {
        true => Err(malformed("'requests' has to be a list of requests")),
        false => Ok(wanted),
    }
}

fn one_of_google<'a>(value: Json<'a>, at: &str, wanted: &mut Wanted<'a>) -> Result<(), Fault> {
    let object = read(value, at)?;
    for (key, value, _) in object.iter() {
        match key {
            b"\"model\"" | b"\"content\"" => {}
            b"\"outputDimensionality\"" | b"\"output_dimensionality\"" => {
                wanted.dimensions = json::unsigned(value);
            }
            _ => wanted.losses.note_key(key),
        }
    }
    let content =
        object.get("content").ok_or_else(|| malformed(format!("'{at}.content' has to be an object")))?;
    wanted.inputs.push(texts(content, &format!("{at}.content"))?);
    Ok(())
}

fn to_openai(wanted: &Wanted<'_>, target: &Target<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"model\":");
    out.extend_from_slice(target.model);
    out.extend_from_slice(b",\"input\":");
    list(&wanted.inputs, out, |text, out| text.quote(out));
    if let Some(dimensions) = wanted.dimensions {
        out.extend_from_slice(b",\"dimensions\":");
        number(out, dimensions);
    }
    out.push(b'}');
}

fn to_google(wanted: &Wanted<'_>, target: &Target<'_>, out: &mut Vec<u8>) {
    let name = Text::of(target.model).unwrap_or_default();
    out.extend_from_slice(b"{\"requests\":");
    list(&wanted.inputs, out, |text, out| {
        out.extend_from_slice(b"{\"model\":\"models/");
        out.extend_from_slice(name.inside());
        out.extend_from_slice(b"\",\"content\":{\"parts\":[{\"text\":");
        text.quote(out);
        out.extend_from_slice(b"}]}");
        if let Some(dimensions) = wanted.dimensions {
            out.extend_from_slice(b",\"outputDimensionality\":");
            number(out, dimensions);
        }
        out.push(b'}');
    });
    out.push(b'}');
}

/// Appends a JSON list.
fn list<T>(items: &[T], out: &mut Vec<u8>, mut item: impl FnMut(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (index, one) in items.iter().enumerate() {
        out.extend_from_slice(if index > 0 { b"," } else { b"" });
        item(one, out);
    }
    out.push(b']');
}

fn from_openai(body: &[u8]) -> Result<Vectors<'_>, Unfit> {
    let object = Object::read(body)?;
    let mut numbered = Vec::new();
    for (place, element) in object.elements("data").enumerate() {
        let one = Object::read(element?.0)?;
        let values =
            one.of_kind("embedding", ValueKind::Array).ok_or(Unfit("a vector is no list of numbers"))?;
        numbered.push((one.unsigned("index").unwrap_or(place as u64), values));
    }
    if numbered.is_empty() {
        return Err(Unfit("there is no 'data'"));
    }
    numbered.sort_by_key(|(index, _)| *index);
    let usage = object.get("usage").and_then(|usage| Usage::read(usage).ok().flatten());
    Ok(Vectors { values: numbered.into_iter().map(|(_, values)| values).collect(), usage })
}

fn from_google(body: &[u8]) -> Result<Vectors<'_>, Unfit> {
    let object = Object::read(body)?;
    let values_of = |one: Json<'_>| -> Result<_, Unfit> {
        let values = Object::read(one)?;
        Ok(values.of_kind("values", ValueKind::Array).is_some())
    };
    let mut values = Vec::new();
    let single = object.of_kind("embedding", ValueKind::Object).into_iter().map(Ok);
    let many = object.elements("embeddings").map(|element| element.map(|(value, _)| value));
    for one in single.chain(many) {
        let one = one?;
        if !values_of(one)? {
            return Err(Unfit("a vector has no 'values'"));
        }
        values.extend(Object::read(one)?.of_kind("values", ValueKind::Array));
    }
    if values.is_empty() {
        return Err(Unfit("there is no 'embeddings'"));
    }
    let usage = object.get("usageMetadata").and_then(|usage| Usage::read(usage).ok().flatten());
    Ok(Vectors { values, usage })
}

fn for_openai(vectors: &Vectors<'_>, context: &Context, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"object\":\"list\",\"data\":");
    let mut index = 0;
    list(&vectors.values, out, |values, out| {
        out.extend_from_slice(b"{\"object\":\"embedding\",\"index\":");
        number(out, index);
        out.extend_from_slice(b",\"embedding\":");
        out.extend_from_slice(values);
        out.push(b'}');
        index += 1;
    });
    out.extend_from_slice(b",\"model\":");
    Text::plain(&context.model).quote(out);
    if let Some(usage) = &vectors.usage {
        out.extend_from_slice(b",\"usage\":{\"prompt_tokens\":");
        number(out, usage.input);
        out.extend_from_slice(b",\"total_tokens\":");
        number(out, usage.input);
        out.push(b'}');
    }
    out.push(b'}');
}

fn one_for_google(vectors: &Vectors<'_>, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let [values] = vectors.values[..] else { return Err(Unfit("there is not one vector")) };
    out.extend_from_slice(b"{\"embedding\":{\"values\":");
    out.extend_from_slice(values);
    out.push(b'}');
    googles_usage(vectors, out);
    Ok(())
}

fn all_for_google(vectors: &Vectors<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"embeddings\":");
    list(&vectors.values, out, |values, out| {
        out.extend_from_slice(b"{\"values\":");
        out.extend_from_slice(values);
        out.push(b'}');
    });
    googles_usage(vectors, out);
}

fn googles_usage(vectors: &Vectors<'_>, out: &mut Vec<u8>) {
    if let Some(usage) = &vectors.usage {
        out.extend_from_slice(b",\"usageMetadata\":{\"promptTokenCount\":");
        number(out, usage.input);
        out.extend_from_slice(b",\"totalTokenCount\":");
        number(out, usage.input);
        out.push(b'}');
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(client: Api, backend: Api, body: &str) -> Result<String, Fault> {
        let target = Target {
            model: b"\"v-1\"",
            output_max_default: 1,
            takes_stream_options: false,
            output_cap_member: "max_tokens",
            takes_extras: false,
        };
        let mut out = Vec::new();
        request(client, backend, body.as_bytes(), &target, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn told(client: Api, backend: Api, body: &str) -> Result<String, Unfit> {
        let context = Context {
            request_id: String::new(),
            model: "public".to_owned(),
            custom_tools: Vec::new(),
            created: 0,
            include_usage: false,
            held_bytes_max: 0,
        };
        let mut out = Vec::new();
        response(client, backend, &context, body.as_bytes(), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn ollamas_requests_and_responses_go_either_way() {
        let openai = r#"{"model":"v-1","input":["a","b"],"dimensions":3}"#;
        for body in [
            r#"{"model":"m","input":["a","b"],"dimensions":3,"truncate":true}"#,
            r#"{"dimensions":3,"input":[ "a", "b" ],"model":"m","keep_alive":"5m"}"#,
        ] {
            assert_eq!(asked(Api::OllamaEmbed, Api::Embeddings, body).unwrap(), openai);
        }
        let one = asked(Api::OllamaEmbeddings, Api::Embeddings, r#"{"model":"m","prompt":"a"}"#).unwrap();
        assert_eq!(one, r#"{"model":"v-1","input":["a"]}"#);
        for body in [r#"{"model":"m"}"#, r#"{"model":"m","input":[]}"#, r#"{"model":"m","input":[1]}"#, "[]"]
        {
            assert!(asked(Api::OllamaEmbed, Api::Embeddings, body).is_err(), "{body}");
        }
        let from = r#"{"object":"list","data":[{"index":1,"embedding":[3]},{"index":0,"embedding":[1, -2e-3]}],"usage":{"prompt_tokens":4,"total_tokens":4}}"#;
        assert_eq!(
            told(Api::OllamaEmbed, Api::Embeddings, from).unwrap(),
            r#"{"model":"public","embeddings":[[1, -2e-3],[3]],"prompt_eval_count":4}"#
        );
        assert!(told(Api::OllamaEmbeddings, Api::Embeddings, from).is_err(), "two vectors for one prompt");
        let own = r#"{"model":"e","embeddings":[[0.5]],"total_duration":5,"prompt_eval_count":2}"#;
        assert_eq!(told(Api::OllamaEmbeddings, Api::OllamaEmbed, own).unwrap(), r#"{"embedding":[0.5]}"#);
        assert!(told(Api::Embeddings, Api::OllamaEmbed, own).unwrap().contains(r#""prompt_tokens":2"#));
        assert!(told(Api::OllamaEmbed, Api::OllamaEmbed, r#"{"error":"x"}"#).is_err());
    }

    #[test]
    fn texts_go_either_way() {
        for input in [r#"["a","b \"c\""]"#, r#"[ "a" , "b \"c\"" ]"#] {
            let body =
                format!(r#"{{"model":"m","input":{input},"dimensions":3,"encoding_format":"base64"}}"#);
            assert_eq!(
                asked(Api::Embeddings, Api::BatchEmbedContents, &body).unwrap(),
                concat!(
                    r#"{"requests":[{"model":"models/v-1","content":{"parts":[{"text":"a"}]},"outputDimensionality":3},"#,
                    r#"{"model":"models/v-1","content":{"parts":[{"text":"b \"c\""}]},"outputDimensionality":3}]}"#
                )
            );
        }
        let one =
            r#"{"content":{"parts":[{"text":"a"},{"text":"b"}]},"taskType":"X","outputDimensionality":3}"#;
        let expected = r#"{"model":"v-1","input":["a\nb"],"dimensions":3}"#;
        assert_eq!(asked(Api::EmbedContent, Api::Embeddings, one).unwrap(), expected);
        let many = format!(r#"{{"requests":[{one}]}}"#);
        assert_eq!(asked(Api::BatchEmbedContents, Api::Embeddings, &many).unwrap(), expected);
    }

    #[test]
    fn what_is_no_text_is_refused_by_its_name() {
        for (api, body, member) in [
            (Api::Embeddings, r#"{"input":[1,2]}"#, "'input'"),
            (Api::Embeddings, r#"{"input":[[1]]}"#, "'input'"),
            (Api::Embeddings, r#"{"model":"m"}"#, "'input'"),
            (Api::EmbedContent, r#"{}"#, "'the body.content'"),
            (Api::BatchEmbedContents, r#"{"requests":[]}"#, "'requests'"),
            (
                Api::BatchEmbedContents,
                r#"{"requests":[{"content":{"parts":[{"inlineData":{}}]}}]}"#,
                "'requests[0].content.parts[0].inlineData'",
            ),
        ] {
            let backend = if api == Api::Embeddings { Api::BatchEmbedContents } else { Api::Embeddings };
            let fault = asked(api, backend, body).unwrap_err();
            assert!(fault.note.contains(member), "{body}: {}", fault.note);
        }
    }

    #[test]
    fn vectors_keep_their_numbers_and_their_order() {
        let openai = r#"{"data":[{"index":1,"embedding":[2.50]},{"index":0,"embedding":[1e0,-0]}],"usage":{"prompt_tokens":4,"total_tokens":4}}"#;
        assert_eq!(
            told(Api::BatchEmbedContents, Api::Embeddings, openai).unwrap(),
            r#"{"embeddings":[{"values":[1e0,-0]},{"values":[2.50]}],"usageMetadata":{"promptTokenCount":4,"totalTokenCount":4}}"#
        );
        assert!(told(Api::EmbedContent, Api::Embeddings, openai).is_err());
        let google = r#"{"embeddings":[{"values":[1.5]},{"values":[2]}]}"#;
        assert_eq!(
            told(Api::Embeddings, Api::BatchEmbedContents, google).unwrap(),
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1.5]},{"object":"embedding","index":1,"embedding":[2]}],"model":"public"}"#
        );
        let one = r#"{"data":[{"embedding":[1]}]}"#;
        assert_eq!(told(Api::EmbedContent, Api::Embeddings, one).unwrap(), r#"{"embedding":{"values":[1]}}"#);
        for other in ["{}", r#"{"data":[{"embedding":"AAAA"}]}"#, r#"{"error":{}}"#, "["] {
            assert!(told(Api::EmbedContent, Api::Embeddings, other).is_err(), "{other}");
            assert!(told(Api::Embeddings, Api::BatchEmbedContents, other).is_err(), "{other}");
        }
    }
}
