//! What a backend's URL contributes to every request target.

use crate::dialect::route::encode_id;
use crate::dialect::{Api, ApiSet};

/// The path in front of every endpoint, and the query behind it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Base {
    /// Without a slash at its end, empty for none.
    path: Box<[u8]>,
    /// Without `?`, empty for none.
    query: Box<[u8]>,
    /// The API lies right under `path`: no `/v1` is added.
    complete: bool,
    /// Endpoints that lie under the deployment of a model: `/deployments/MODEL` is added.
    deployed: ApiSet,
}

impl Base {
    /// Of a server's root, or of an API's base.
    pub fn new(path: &str, query: &str, is_api: bool) -> Self {
        if is_api { Self::of_api(path, query) } else { Self::of_server(path) }
    }

    /// A server's root: the endpoint's whole path, `/v1` included, goes behind `path`.
    pub fn of_server(path: &str) -> Self {
        Self { path: path.as_bytes().into(), ..Self::default() }
    }

    /// The same with a `query` behind all.
    pub fn of_server_with(path: &str, query: &str) -> Self {
        Self { query: query.as_bytes().into(), ..Self::of_server(path) }
    }

    /// An API's own base: only the part of the endpoint's path behind `/v1` goes behind `path`, and `query` behind all.
    pub fn of_api(path: &str, query: &str) -> Self {
        let (path, query) = (path.as_bytes().into(), query.as_bytes().into());
        Self { path, query, complete: true, ..Self::default() }
    }

    /// An API's own base, under which some endpoints lie under the deployment of a model.
    pub fn of_deployments(path: &str, query: &str, deployed: ApiSet) -> Self {
        Self { deployed, ..Self::of_api(path, query) }
    }

    /// Appends the request target of an endpoint up to the end of `path` (`/v1/chat/completions`). `model`: the backend's own
    /// name for it, which is an id in the path where endpoints lie under deployments.
    ///
    /// A server's path that already ends in `/v1`, as base URLs for SDKs do, does not get a second one, and what a server
    /// has beside `/v1` is asked for beside it.
    pub fn begin(&self, api: Api, path: &str, model: &[u8], out: &mut Vec<u8>) {
        let own = if self.complete { None } else { self.path.strip_suffix(b"/v1") };
        out.extend_from_slice(own.unwrap_or(&self.path));
        if self.deployed.contains(api) {
            out.extend_from_slice(b"/deployments/");
            encode_id(model, out);
        }
        out.extend_from_slice(match path.strip_prefix("/v1") {
            Some(rest) if self.complete => rest.as_bytes(),
            _ => path.as_bytes(),
        });
    }

    /// Appends the end of a request target, with the client's `query` (without `?`, empty for none). The parameters of the
    /// base come first; a client's parameter of the same name is left out, since a server may take either of two.
    ///
    /// Cost: without a query of the base, copies only; with one, a pass over the client's query for each of its parameters.
    pub fn end(&self, query: &[u8], out: &mut Vec<u8>) {
        if self.query.is_empty() {
            if !query.is_empty() {
                out.push(b'?');
                out.extend_from_slice(query);
            }
            return;
        }
        out.push(b'?');
        out.extend_from_slice(&self.query);
        for parameter in parameters(query).filter(|parameter| !self.sets(name(parameter))) {
            out.push(b'&');
            out.extend_from_slice(parameter);
        }
    }

    /// The names of its parameters that carry a secret, as far as a name can tell.
    pub fn secret_names(&self) -> impl Iterator<Item = &[u8]> {
        const SECRET: [&str; 6] = ["key", "token", "secret", "password", "sig", "code"];
        let is_secret = |name: &&[u8]| {
            let lower = String::from_utf8_lossy(name).to_ascii_lowercase();
            SECRET.iter().any(|word| lower.contains(word))
        };
        parameters(&self.query).map(name).filter(is_secret)
    }

    fn sets(&self, wanted: &[u8]) -> bool {
        parameters(&self.query).any(|own| {
            let (own, wanted) = (decoded(name(own)), decoded(wanted));
            own.map(|byte| byte.to_ascii_lowercase()).eq(wanted.map(|byte| byte.to_ascii_lowercase()))
        })
    }
}

fn parameters(query: &[u8]) -> impl Iterator<Item = &[u8]> {
    query.split(|byte| *byte == b'&').filter(|parameter| !parameter.is_empty())
}

fn name(parameter: &[u8]) -> &[u8] {
    parameter.split(|byte| *byte == b'=').next().unwrap_or_default()
}

/// The bytes that a percent-encoded text stands for; what is no encoding stands for itself.
fn decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (first, behind) = rest.split_first()?;
        rest = behind;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        if let (b'%', [high, low, behind @ ..]) = (first, behind)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            rest = behind;
            return u8::try_from(high * 16 + low).ok();
        }
        Some(*first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(base: &Base, query: &str) -> String {
        let mut out = Vec::new();
        base.begin(Api::Chat, "/v1/chat/completions", b"m", &mut out);
        base.end(query.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_servers_target_has_one_version_and_the_clients_query() {
        let server = |path, query| target(&Base::of_server(path), query);
        assert_eq!(server("", ""), "/v1/chat/completions");
        assert_eq!(server("/v1", ""), "/v1/chat/completions");
        assert_eq!(server("/engine", "beta=true&x="), "/engine/v1/chat/completions?beta=true&x=");
        assert_eq!(server("/openai/v1", "?"), "/openai/v1/chat/completions??");
        assert_eq!(server("/xv1", ""), "/xv1/v1/chat/completions");
    }

    #[test]
    fn an_apis_target_has_no_version_but_its_own() {
        let api = |path, query| target(&Base::of_api(path, query), "");
        assert_eq!(api("/api/paas/v4", ""), "/api/paas/v4/chat/completions");
        assert_eq!(api("/v1beta/openai", ""), "/v1beta/openai/chat/completions");
        assert_eq!(api("/v1", ""), "/v1/chat/completions");
        assert_eq!(api("", ""), "/chat/completions");
        assert_eq!(api("/d/x", "api-version=1"), "/d/x/chat/completions?api-version=1");
    }

    #[test]
    fn the_bases_parameters_win_over_the_clients() {
        let base = Base::of_api("/d", "api-version=2024-10-21&x=");
        for (query, expected) in [
            ("beta=true", "&beta=true"),
            ("api-version=2023-05-15", ""),
            ("API-Version=1&beta=true&&x", "&beta=true"),
            ("api%2dversion=1&api-versions=2", "&api-versions=2"),
            ("api%2=1&%", "&api%2=1&%"),
        ] {
            let expected = format!("/d/chat/completions?api-version=2024-10-21&x={expected}");
            assert_eq!(target(&base, query), expected, "{query}");
        }
    }

    #[test]
    fn parameters_that_look_like_secrets_are_known() {
        let base = Base::of_api("", "api-version=1&Subscription-Key=a&access_token=b");
        let names: Vec<_> = base.secret_names().collect();
        assert_eq!(names, [b"Subscription-Key".as_slice(), b"access_token"]);
    }
}
