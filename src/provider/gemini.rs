//! generativelanguage.googleapis.com.
//!
//! The model and whether the response streams are in the path (`dialect::gemini`); events have to be asked for by `alt=sse`.
//! What is newest lies under `/v1beta`, so that is where a server's root leads. The key is never in the query.

use super::base::Base;
use super::{Credential, ProviderKind};
use crate::dialect::{Api, ApiSet};

pub(super) const KIND: ProviderKind = ProviderKind {
    name: "gemini",
    base: Some("https://generativelanguage.googleapis.com/v1beta"),
    example: "https://generativelanguage.googleapis.com/v1beta",
    serves: ApiSet::of(&[
        Api::GenerateContent,
        Api::GoogleCountTokens,
        Api::EmbedContent,
        Api::BatchEmbedContents,
    ]),
    takes_stream_options: false,
    hosted: true,
    credential: Credential::GoogleKey,
    base_of: base,
    ..ProviderKind::COPY
};

fn base(path: &str, query: &str, is_api: bool) -> Base {
    let has_version = ["/v1", "/v1beta", "/v1alpha"].iter().any(|version| path.ends_with(version));
    match is_api || has_version {
        true => Base::of_api(path, query),
        false => Base::of_api(&format!("{path}/v1beta"), query),
    }
}
