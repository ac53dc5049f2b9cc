//! Ollama, called in its own API: what only that has (the context's length, whether to think, images and tools as the engine
//! takes them) is not in its copies of other APIs. `/v1/completions` and `/v1/embeddings` are OpenAI's, as everywhere.
//!
//! Its URL is the server's root. One that ends in `/v1`, as base URLs for OpenAI's SDKs do, counts as the root above it.

use super::ProviderKind;
use super::base::Base;
use crate::dialect::{Api, ApiSet};

pub(super) const KIND: ProviderKind = ProviderKind {
    name: "ollama",
    base: Some("http://127.0.0.1:11434"),
    example: "http://127.0.0.1:11434",
    serves: ApiSet::of(&[
        Api::OllamaChat,
        Api::OllamaGenerate,
        Api::OllamaEmbed,
        Api::OllamaEmbeddings,
        Api::Completions,
        Api::Embeddings,
    ]),
    health_path: Some("/api/version"),
    base_of: base,
    ..ProviderKind::COPY
};

fn base(path: &str, query: &str, _: bool) -> Base {
    Base::of_server_with(path.strip_suffix("/v1").unwrap_or(path), query)
}
