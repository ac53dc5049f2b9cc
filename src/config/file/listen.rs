//! Where clients connect.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::entry::Entry;

/// Where clients connect: one entry, or a list of them.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Listen(pub Vec<Entry<Listener>>);

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Listen;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an address like \"0.0.0.0:8080\", or a list of them")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Listen, E> {
                Ok(Listen(vec![Listener::from(text.to_owned()).into()]))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Listen, A::Error> {
                Ok(Listen(vec![Entry(Listener::deserialize(MapAccessDeserializer::new(map))?)]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Listen, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Listen)
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

impl JsonSchema for Listen {
    fn schema_name() -> Cow<'static, str> {
        "Listen".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<Entry<Listener>>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

/// One address for clients.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address and port, for example 0.0.0.0:8080 or [::]:8080.
    pub address: String,
    /// false: plaintext although [tls] is configured.
    #[serde(default)]
    pub tls: Option<bool>,
    /// true: every connection starts with a PROXY header (version 1 or 2) that names the client. Only trusted_proxies
    /// may connect.
    #[serde(default)]
    pub proxy_protocol: bool,
}

impl From<String> for Listener {
    fn from(address: String) -> Self {
        Self { address, tls: None, proxy_protocol: false }
    }
}
