//! Azure OpenAI, in both forms of its URLs.
//!
//! The newer form is OpenAI's own under `/openai/v1`: the model is in the body. The older one names a deployment in the
//! path and a date in the query: `/openai/deployments/MODEL/chat/completions?api-version=2024-10-21`; Responses are beside
//! the deployments there (`/openai/responses`). Which one is meant is written in the URL: an `api_base` that ends in
//! `/openai` and has an `api-version` is the older form.
//!
//! Source: Microsoft's reference of the inference API, and its page on the API's life cycle.

use super::base::Base;
use super::{Credential, ProviderKind};
use crate::dialect::{Api, ApiSet};

pub(super) const KIND: ProviderKind = ProviderKind {
    name: "azure",
    example: "https://NAME.openai.azure.com/openai/v1",
    serves: DEPLOYED.with(Api::Responses),
    hosted: true,
    credential: Credential::AzureKey,
    output_cap_member: "max_completion_tokens", // its newer models refuse the older name
    base_of: base,
    ..ProviderKind::COPY
};

/// What lies under a deployment in the older form.
pub(super) const DEPLOYED: ApiSet = ApiSet::of(&[Api::Chat, Api::Completions, Api::Embeddings]);

fn base(path: &str, query: &str, is_api: bool) -> Base {
    let has_version = query.split('&').any(|parameter| parameter.starts_with("api-version="));
    match is_api {
        true if path.ends_with("/openai") && has_version => Base::of_deployments(path, query, DEPLOYED),
        true => Base::of_api(path, query),
        false => {
            let root = path.strip_suffix("/v1").unwrap_or(path);
            let root = root.strip_suffix("/openai").unwrap_or(root);
            Base::of_api(&format!("{root}/openai/v1"), query)
        }
    }
}
