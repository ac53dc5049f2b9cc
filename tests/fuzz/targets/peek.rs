//! Request bodies: taken exactly where a careful reader of whole values takes them, with the same meaning, and edited
//! where they say so only.

use std::fmt;

use ringway::dialect::Api;
use ringway::dialect::request::{CHOICES_MAX, OUTPUT_CAP_MAX, Peek, peek};
use ringway::error::FaultKind;
use ringway::wire::json;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

const APIS: [Api; 7] = [
    Api::Chat,
    Api::Completions,
    Api::Embeddings,
    Api::Responses,
    Api::Rerank,
    Api::Messages,
    Api::CountTokens,
];

/// The members of an object, those of one name all kept.
struct Members(Vec<(String, Node)>);

/// A value of which only an object has to be looked into.
enum Node {
    Object(Members),
    Other(Value),
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    let node = match key.as_str() {
                        "stream_options" => map.next_value::<Node>()?,
                        _ => Node::Other(map.next_value()?),
                    };
                    members.push((key, node));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Node;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("any value")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Node, A::Error> {
                let map = serde::de::value::MapAccessDeserializer::new(map);
                Members::deserialize(map).map(Node::Object)
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Other(Value::Null))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Other(value.into()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Other(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Other(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Other(value.into()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Other(value.into()))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
                while list.next_element::<Value>()?.is_some() {}
                Ok(Node::Other(Value::Array(Vec::new())))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl Members {
    /// The member of that name, null counting as absent. `Err` if it is there twice, or as only some readers spell it.
    fn only(&self, name: &str) -> Result<Option<&Node>, ()> {
        let fold = |text: &str| text.replace('\u{17f}', "s").replace('\u{212a}', "k").to_ascii_lowercase();
        let alike: Vec<_> = self.0.iter().filter(|(key, _)| fold(key) == name).collect();
        match alike.as_slice() {
            [] => Ok(None),
            [(key, node)] if key == name => {
                Ok(Some(node).filter(|node| !matches!(node, Node::Other(Value::Null))))
            }
            _ => Err(()),
        }
    }

    fn flag(&self, name: &str) -> Result<bool, ()> {
        match self.only(name)? {
            None => Ok(false),
            Some(Node::Other(Value::Bool(flag))) => Ok(*flag),
            Some(_) => Err(()),
        }
    }

    fn number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, ()> {
        match self.only(name)? {
            None => Ok(None),
            Some(Node::Other(Value::Number(number))) => {
                number.as_u64().filter(|number| (least..=most).contains(number)).map(Some).ok_or(())
            }
            Some(_) => Err(()),
        }
    }
}

/// Model, stream, whether usage is asked for, cap, answers to the client, answers computed, base64.
type Meaning = (String, bool, bool, Option<u64>, u64, u64, bool);

fn meaning(api: Api, body: &Members) -> Result<Meaning, ()> {
    let model = match body.only("model")? {
        Some(Node::Other(Value::String(name))) if !name.is_empty() => name.clone(),
        _ => return Err(()),
    };
    let usage_asked = match body.only("stream_options")? {
        None => false,
        Some(Node::Object(options)) => options.flag("include_usage")?,
        Some(Node::Other(_)) => return Err(()),
    };
    let tokens = body.number("max_tokens", 0, OUTPUT_CAP_MAX)?;
    let completion = body.number("max_completion_tokens", 0, OUTPUT_CAP_MAX)?;
    let output = body.number("max_output_tokens", 0, OUTPUT_CAP_MAX)?;
    let choices = body.number("n", 1, CHOICES_MAX)?.unwrap_or(1);
    let best = body.number("best_of", 1, CHOICES_MAX)?.unwrap_or(1);
    let cap = match api {
        Api::Chat => tokens.into_iter().chain(completion).max(),
        Api::Completions | Api::Messages => tokens,
        Api::Responses => output,
        _ => Some(0),
    };
    let base64 = match api {
        Api::Embeddings => match body.only("encoding_format")? {
            Some(Node::Other(Value::String(name))) => name == "base64",
            _ => false,
        },
        _ => false,
    };
    Ok((model, body.flag("stream")?, usage_asked, cap, choices, best.max(choices), base64))
}

pub(crate) fn run(data: &[u8]) {
    let members = serde_json::from_slice::<Members>(data).ok();
    for api in APIS {
        let read = peek(api, data);
        if let Some(members) = &members {
            let told = read.as_ref().ok().map(|peek| {
                let model = peek.model_name(data).into_owned();
                let (cap, counts) = (peek.output_cap, (peek.choices, peek.generations));
                (model, peek.stream, peek.usage_asked, cap, counts.0, counts.1, peek.base64)
            });
            assert_eq!(told, meaning(api, members).ok(), "{api:?}: {read:?}");
        }
        match read {
            Ok(peek) => edited(data, &peek),
            Err(fault) => assert_eq!(fault.kind, FaultKind::BodyMalformed, "a body is the client's"),
        }
    }
}

/// What goes to a backend: sound, as long as it was said to be, and changed in model and stream options only.
fn edited(data: &[u8], peek: &Peek) {
    assert!(json::is_object(data));
    for (model, takes) in [(Some(&br#""other\n""#[..]), true), (Some(b"\"other\\n\""), false), (None, true)] {
        let edits = peek.edits(model, None, takes);
        let mut sent = Vec::new();
        json::splice(&mut sent, data, edits.as_slice());
        assert_eq!(sent.len(), edits.length(data.len()));
        let again = ringway::dialect::request::peek(peek.api, &sent).expect("what is sent is sound");
        let name = if model.is_some() { "other\n".to_owned() } else { peek.model_name(data).into_owned() };
        assert_eq!(again.model_name(&sent), name);
        assert_eq!(again.usage_asked, peek.usage_asked || edits.asks_usage);
        let asks =
            peek.stream && !peek.usage_asked && takes && matches!(peek.api, Api::Chat | Api::Completions);
        assert_eq!(edits.asks_usage, asks);
        assert_eq!(
            (again.stream, again.output_cap, again.choices),
            (peek.stream, peek.output_cap, peek.choices)
        );

        let others = |text: &[u8]| -> Vec<(Vec<u8>, Vec<u8>)> {
            let members = json::members(text).map(|member| member.expect("the body is sound"));
            let told = members.filter(|member| {
                let key = member.key.of(text);
                !json::key_is(key, "model") && !json::key_is(key, "stream_options")
            });
            told.map(|member| (member.key.of(text).to_vec(), member.value.of(text).to_vec())).collect()
        };
        assert_eq!(others(&sent), others(data), "every other member is as it was");
    }
}
