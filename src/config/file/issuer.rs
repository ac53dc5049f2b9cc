//! Issuers of JSON Web Tokens.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rows::{Budget, RateLimit};
use crate::config::quantity::Time;

/// An issuer of JSON Web Tokens: its tokens are taken wherever a key is. A token counts against the limits of the team that its
/// claims are mapped to, against those of this table, and against those of [end_users], by the user that it names.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Issuer {
    /// The issuer as its tokens name it (`iss`), for example "https://login.example/realms/corp": its key set is found by its
    /// OpenID configuration (/.well-known/openid-configuration). Either this, or `jwks_url` and `issuer`.
    pub url: Option<String>,
    /// The URL of its key set, for an issuer without an OpenID configuration.
    pub jwks_url: Option<String>,
    /// What `iss` has to be. Default: `url`.
    pub issuer: Option<String>,
    /// What `aud` has to be or to hold: one of these.
    pub audience: Vec<String>,
    /// How tokens may be signed: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA.
    pub algorithms: Vec<String>,
    /// How far the issuer's clock may be from this machine's. At most "10m".
    pub clock_skew: Time,
    /// Which claims name the user and the team.
    pub claims: IssuerClaims,
    /// Claims that a token has to have, each with the values of which it has to hold one. Default: none.
    pub required: BTreeMap<String, Vec<String>>,
    /// The team, a [team.NAME], of each value of claims.team. Default: the values are the names of teams.
    pub teams: BTreeMap<String, String>,
    /// The team of tokens whose claims are mapped to no other. Default: none: with claims.team such tokens are refused.
    pub team: Option<String>,
    /// Authorities that its certificate is checked against, in PEM, in place of the machine's.
    pub ca_file: Option<PathBuf>,
    /// Time between two readings of its key set.
    pub refresh: Time,
    /// A token with an unknown key id has the key set read at once, but not sooner than this after the last reading.
    pub refresh_min: Time,
    /// How long the last key set stays in use while the issuer cannot be reached.
    pub age_max: Time,
    /// Labels for reports.
    pub tags: Vec<String>,
    /// The models that its tokens may use, of those that their team may: public names or aliases, `*` for any run of characters.
    /// Default: all.
    pub models: Option<Vec<String>>,
    /// Whether its callers may ask how their backend was chosen, as of [key.NAME]. Default: only if debug_headers is on.
    pub trace: bool,
    /// The endpoints that its tokens may call, of those that their team may. Default: all.
    pub apis: Option<Vec<String>>,
    /// Requests per minute of its tokens of one team together. Default: unlimited.
    pub requests_per_minute: Option<u64>,
    /// Requests at once. Default: a minute's worth.
    pub requests_burst: Option<u64>,
    /// Tokens per minute, of prompts and responses, of its callers of one team together. Default: unlimited.
    pub tokens_per_minute: Option<u64>,
    /// Tokens that may be taken at once. Default: a minute's worth.
    pub tokens_burst: Option<u64>,
    /// Requests in flight at once over all shards. Default: unlimited.
    pub in_flight_max: Option<u32>,
    /// Of these limits none refuses: what they would have refused is counted. Default: none.
    pub shadow: Vec<RateLimit>,
    /// Budgets of its callers of one team together. Default: none.
    pub budgets: Vec<Budget>,
}

/// Which claims name the user and the team. With dots: a member of a claim, "realm_access.roles".
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IssuerClaims {
    /// The claim that names the user.
    pub user: String,
    /// The claim whose values, one or a list, are mapped to a team. Default: none.
    pub team: Option<String>,
}

impl Default for IssuerClaims {
    fn default() -> Self {
        Self { user: "sub".to_owned(), team: None }
    }
}

impl Default for Issuer {
    fn default() -> Self {
        Self {
            url: None,
            jwks_url: None,
            issuer: None,
            audience: Vec::new(),
            algorithms: vec!["RS256".to_owned()],
            clock_skew: Time::seconds(60),
            claims: IssuerClaims::default(),
            required: BTreeMap::new(),
            teams: BTreeMap::new(),
            team: None,
            ca_file: None,
            refresh: Time::minutes(10),
            refresh_min: Time::seconds(10),
            age_max: Time::seconds(86_400),
            tags: Vec::new(),
            models: None,
            trace: false,
            apis: None,
            requests_per_minute: None,
            requests_burst: None,
            tokens_per_minute: None,
            tokens_burst: None,
            in_flight_max: None,
            shadow: Vec::new(),
            budgets: Vec::new(),
        }
    }
}
