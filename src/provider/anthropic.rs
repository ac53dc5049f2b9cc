//! api.anthropic.com.
//!
//! Refuses requests without `anthropic-version`, so one is sent where the client has none; the client's own passes.
//! `anthropic-beta` lines and the body members they unlock travel together, untouched.

use super::{Credential, Provider, ProviderKind};
use crate::dialect::{Api, ApiSet};

pub(super) const PROVIDER: Provider = Provider {
    kind: ProviderKind::Anthropic,
    serves: ApiSet::of(&[Api::Messages, Api::CountTokens]),
    takes_stream_options: false,
    hosted: true,
    health_path: None,
    credential: Credential::ApiKey,
};

/// Name and whole line.
pub(super) const VERSION: (&[u8], &[u8]) = (b"anthropic-version", b"anthropic-version: 2023-06-01\r\n");
