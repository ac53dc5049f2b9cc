//! Amazon Bedrock, by its Converse API.
//!
//! The model stands in the path, escaped as one segment: names of inference profiles are ARNs with `/` and `:`. Requests are
//! signed with the keys of an account ([`super::sign`]), or carry a key of Bedrock's own as a bearer token.

use super::base::Base;
use super::{Credential, ProviderKind};
use crate::dialect::{Api, ApiSet};

/// What stands for the region in the URL.
pub(super) const REGION: &str = "REGION";

pub(super) const KIND: ProviderKind = ProviderKind {
    name: "bedrock",
    example: "https://bedrock-runtime.REGION.amazonaws.com",
    base_in_region: Some("https://bedrock-runtime.REGION.amazonaws.com"),
    signs_for: Some("bedrock"),
    serves: ApiSet::of(&[Api::Converse]),
    takes_stream_options: false,
    hosted: true,
    credential: Credential::Bearer,
    base_of: base,
    ..ProviderKind::COPY
};

fn base(path: &str, query: &str, _: bool) -> Base {
    Base::of_server_with(path, query)
}
