//! Values of the file that have more than one form: short and long, one and many, and names kept elsewhere.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::policy::routing::choice;
use crate::provider;

/// A table that may be written short, as the text of its first key.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(transparent)]
pub struct Entry<T>(pub T);

impl<T> From<T> for Entry<T> {
    fn from(entry: T) -> Self {
        Self(entry)
    }
}

impl<'de, T: Deserialize<'de> + From<String>> Deserialize<'de> for Entry<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShortOrTable<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + From<String>> Visitor<'de> for ShortOrTable<T> {
            type Value = Entry<T>;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a text or a table")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Entry<T>, E> {
                Ok(Entry(T::from(text.to_owned())))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entry<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Entry)
            }
        }
        deserializer.deserialize_any(ShortOrTable(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Entry<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}Entry", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [{ "type": "string" }, table] })
    }
}

/// The proxy of one backend: one of its own, that of `[egress]`, or none.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ProxyChoice {
    /// That of `[egress]`, or none.
    Switch(bool),
    /// As in `[egress]`.
    Own(String),
}

impl<'de> Deserialize<'de> for ProxyChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrBool;
        impl Visitor<'_> for TextOrBool {
            type Value = ProxyChoice;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(
                    "a proxy like \"http://HOST:PORT\", true for that of [egress], or false for none",
                )
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<ProxyChoice, E> {
                Ok(ProxyChoice::Own(text.to_owned()))
            }
            fn visit_bool<E: Error>(self, switch: bool) -> Result<ProxyChoice, E> {
                Ok(ProxyChoice::Switch(switch))
            }
        }
        deserializer.deserialize_any(TextOrBool)
    }
}

/// How a backend of a pool is chosen, by the names of [`choice::Policy`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RoutingPolicy(pub choice::Policy);

impl<'de> Deserialize<'de> for RoutingPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = choice::Policy::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, policy)| Self(*policy)).ok_or_else(|| {
            let names = choice::Policy::NAMES.map(|(name, _)| name).join(", ");
            D::Error::custom(format_args!("no such policy; expected one of {names}"))
        })
    }
}

impl Serialize for RoutingPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl JsonSchema for RoutingPolicy {
    fn schema_name() -> Cow<'static, str> {
        "RoutingPolicy".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": choice::Policy::NAMES.map(|(name, _)| name) })
    }
}

/// The number of a core, the key of `[shards.core.N]`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct CoreNumber(pub usize);

impl<'de> Deserialize<'de> for CoreNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let core = text.parse().ok().filter(|core: &usize| core.to_string() == text);
        core.map(Self).ok_or_else(|| D::Error::custom("expected the number of a core, like [shards.core.3]"))
    }
}

/// What runs on a backend, by the names of [`provider::ProviderKind`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ProviderKind(pub &'static provider::ProviderKind);

impl Default for ProviderKind {
    fn default() -> Self {
        Self(provider::ProviderKind::generic())
    }
}

impl<'de> Deserialize<'de> for ProviderKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        provider::ProviderKind::named(&name).map(Self).ok_or_else(|| {
            let names = kinds().join(", ");
            D::Error::custom(format_args!("no such kind; expected one of {names}"))
        })
    }
}

impl Serialize for ProviderKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name)
    }
}

impl JsonSchema for ProviderKind {
    fn schema_name() -> Cow<'static, str> {
        "ProviderKind".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let old = provider::ProviderKind::all().iter().map(|kind| kind.also).filter(|name| !name.is_empty());
        let names: Vec<&str> = kinds().into_iter().chain(old).collect();
        json_schema!({ "enum": names })
    }
}

fn kinds() -> Vec<&'static str> {
    provider::ProviderKind::all().iter().map(|kind| kind.name).collect()
}
