//! Backends in a region of AWS: which region, and who we are there.

use super::{Source, file, secrets};
use crate::config::problem::Report;
use crate::config::secret::{Secret, SecretSource};
use crate::provider::ProviderKind;
use crate::provider::sign::Signer;

/// What a backend of AWS has beside what every backend has.
#[derive(Default)]
pub(super) struct Aws {
    /// Of a kind that has regions.
    pub(super) region: Option<String>,
    /// Signs its requests, unless a key of the service's own is sent.
    pub(super) signer: Option<Box<Signer>>,
    /// A key of the service's own from the environment.
    pub(super) bearer: Option<Secret>,
}

/// Reads the keys of one backend. What the file does not say, the environment does, under the names that AWS's own tools have.
/// `None` after a problem.
pub(super) fn compile(
    name: &str,
    backend: &file::Backend,
    kind: &ProviderKind,
    source: &Source<'_>,
    report: &mut Report<'_>,
) -> Option<Aws> {
    let at = |key| ["backend", name, key];
    let keys = [
        ("region", backend.region.is_some()),
        ("access_key_id", backend.access_key_id.is_some()),
        ("secret_access_key", backend.secret_access_key.is_some()),
        ("session_token", backend.session_token.is_some()),
    ];
    let Some(service) = kind.signs_for else {
        for (key, _) in keys.iter().filter(|(_, there)| *there) {
            report.problem(&at(key), format!("is for kind = \"bedrock\" only, not for \"{}\"", kind.name));
        }
        return Some(Aws::default());
    };
    let region = region(name, backend, source, report)?;
    if backend.api_key.is_some() {
        for (key, _) in keys[1..].iter().filter(|(_, there)| *there) {
            report.problem(&at(key), "is there beside api_key; take away one of them");
        }
        return Some(Aws { region: Some(region), ..Aws::default() });
    }
    if keys[1..].iter().any(|(_, there)| *there) {
        let signer = from_file(name, backend, (&region, service), source, report)?;
        return Some(Aws { region: Some(region), signer: Some(Box::new(signer)), bearer: None });
    }
    from_environment(name, region, service, source, report)
}

fn region(
    name: &str,
    backend: &file::Backend,
    source: &Source<'_>,
    report: &mut Report<'_>,
) -> Option<String> {
    let from_environment =
        || ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| source.environment.variable(name));
    let region = backend.region.clone().or_else(from_environment);
    let is_region = |region: &String| {
        !region.is_empty()
            && region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let known = match region {
        None => Err("is missing; expected one like \"eu-central-1\", here or in AWS_REGION"),
        Some(region) if is_region(&region) => Ok(region),
        Some(_) => Err("expected a region like \"eu-central-1\""),
    };
    report.take(&["backend", name, "region"], known)
}

fn from_file(
    name: &str,
    backend: &file::Backend,
    (region, service): (&str, &'static str),
    source: &Source<'_>,
    report: &mut Report<'_>,
) -> Option<Signer> {
    let mut read = |key: &str, from: &Option<SecretSource>| match from {
        Some(from) => secrets::read(&["backend", name, key], from, source, report),
        None => {
            report.problem(&["backend", name, key], "is missing beside the other key of the account");
            None
        }
    };
    let access = read("access_key_id", &backend.access_key_id);
    let secret = read("secret_access_key", &backend.secret_access_key);
    let token = match &backend.session_token {
        Some(from) => Some(secrets::read(&["backend", name, "session_token"], from, source, report)?),
        None => None,
    };
    let (access, secret) = (access?, secret?);
    Some(Signer::new((access.expose(), secret.expose()), token.as_ref().map(Secret::expose), region, service))
}

fn from_environment(
    name: &str,
    region: String,
    service: &'static str,
    source: &Source<'_>,
    report: &mut Report<'_>,
) -> Option<Aws> {
    let variable = |name: &str| source.environment.variable(name).and_then(|text| Secret::new(&text).ok());
    if let Some(bearer) = variable("AWS_BEARER_TOKEN_BEDROCK") {
        return Some(Aws { region: Some(region), signer: None, bearer: Some(bearer) });
    }
    let (access, secret) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"));
    let (Some(access), Some(secret)) = (access, secret) else {
        let expected = "is missing; expected an api_key of Bedrock's, access_key_id with secret_access_key, or \
                        AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY in the environment";
        report.problem(&["backend", name, "access_key_id"], expected);
        return None;
    };
    let token = variable("AWS_SESSION_TOKEN");
    let token = token.as_ref().map(Secret::expose);
    let signer = Signer::new((access.expose(), secret.expose()), token, &region, service);
    Some(Aws { region: Some(region), signer: Some(Box::new(signer)), bearer: None })
}
