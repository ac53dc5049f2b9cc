//! api.anthropic.com.
//!
//! Refuses requests without `anthropic-version`, so one is sent where the client has none; the client's own passes.
//! `anthropic-beta` lines and the body members they unlock travel together, untouched.

use super::{Credential, ProviderKind};
use crate::dialect::{Api, ApiSet};

pub(super) const KIND: ProviderKind = ProviderKind {
    name: "anthropic",
    base: Some("https://api.anthropic.com/v1"),
    example: "https://api.anthropic.com/v1",
    serves: ApiSet::of(&[Api::Messages, Api::CountTokens]),
    takes_stream_options: false,
    hosted: true,
    credential: Credential::ApiKey,
    line_if_absent: Some((b"anthropic-version", b"anthropic-version: 2023-06-01\r\n")),
    ..ProviderKind::COPY
};
