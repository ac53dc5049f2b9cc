//! Every operation of the API in one list, from which come both the routes and the OpenAPI 3 document at
//! `/api/v1/openapi.json`.

use axum::extract::State;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::{
    Shared, backends, budgets, explain, history, keys, ledger, litellm, live, overview, playground, policies,
    requests, roster, route, session,
};
use crate::policy::auth::role::Need;

/// One operation: where it is, what it is for, what it takes and what it tells.
pub(super) struct Operation {
    pub(super) path: &'static str,
    method: &'static str,
    summary: &'static str,
    /// What may stand in the query.
    query: &'static [&'static str],
    response: fn(&mut SchemaGenerator) -> Schema,
    /// What the caller's role has to be allowed.
    pub(super) need: Need,
    pub(super) handler: MethodRouter<Shared>,
}

/// A schema that is told in words only: another room's type, or no JSON.
struct Any;

impl JsonSchema for Any {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Any".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        Schema::default()
    }
}

fn operation<T: JsonSchema>(
    need: Need,
    method: &'static str,
    path: &'static str,
    query: &'static [&'static str],
    summary: &'static str,
    handler: MethodRouter<Shared>,
) -> Operation {
    Operation {
        path,
        method,
        summary,
        need,
        query,
        response: |generator| generator.subschema_for::<T>(),
        handler,
    }
}

/// All of them, but for the sign-in, which is open.
pub(super) fn operations() -> Vec<Operation> {
    let read_overview = get(async |State(shared): State<Shared>| super::json(&overview::read(&shared)));
    let audit = get(async |State(shared): State<Shared>| super::json(&shared.audit.list()));
    vec![
        operation::<session::Session<'_>>(
            Need::SignedIn,
            "get",
            "/api/v1/session",
            &[],
            "Who asks, and with which role",
            get(session::read),
        ),
        operation::<Any>(
            Need::SignedIn,
            "delete",
            "/api/v1/session",
            &[],
            "Sign out",
            delete(session::close),
        ),
        operation::<overview::Overview>(
            Need::ReadAll,
            "get",
            "/api/v1/overview",
            &[],
            "Is it fine, and if not, whose fault is it?",
            read_overview,
        ),
        operation::<super::Past>(
            Need::ReadAll,
            "get",
            "/api/v1/history",
            &[],
            "The last 15 minutes, second by second",
            get(history),
        ),
        operation::<Any>(
            Need::ReadAll,
            "get",
            "/api/v1/live",
            &["every"],
            "One SSE stream: `snapshot`, then `tick` each second",
            get(live::stream),
        ),
        operation::<backends::Backends>(
            Need::ReadAll,
            "get",
            "/api/v1/backends",
            &[],
            "Backends, each with its state and why",
            get(backends::list),
        ),
        operation::<backends::Detail>(
            Need::ReadAll,
            "get",
            "/api/v1/backends/{name}",
            &[],
            "One backend with its deployments and its past",
            get(backends::one),
        ),
        operation::<backends::Detail>(
            Need::Operate,
            "post",
            "/api/v1/backends/{name}/drain",
            &[],
            "Give a backend no new requests",
            post(backends::drain),
        ),
        operation::<backends::Detail>(
            Need::Operate,
            "post",
            "/api/v1/backends/{name}/undrain",
            &[],
            "Put a drained backend back into service",
            post(backends::undrain),
        ),
        operation::<backends::Models>(
            Need::ReadAll,
            "get",
            "/api/v1/models",
            &[],
            "Models, whether each is usable, and how fast",
            get(backends::models),
        ),
        operation::<keys::Keys>(
            Need::ReadTeam,
            "get",
            "/api/v1/keys",
            &["q", "team", "after", "limit"],
            "Keys with what is used of their limits",
            get(keys::list),
        ),
        operation::<roster::Written<super::views::Key>>(
            Need::WriteTeam,
            "post",
            "/api/v1/keys",
            &[],
            "Create a key: name, and the members of [key.NAME] but sha256. Its secret is in this response only",
            post(roster::create_key),
        ),
        operation::<roster::Written<super::views::Key>>(
            Need::WriteTeam,
            "patch",
            "/api/v1/keys/{name}",
            &[],
            "Change members of a key; those that are left out stay, null takes one away",
            patch(roster::update_key),
        ),
        operation::<roster::Written<super::views::Key>>(
            Need::WriteTeam,
            "delete",
            "/api/v1/keys/{name}",
            &[],
            "Revoke a key: its running streams end",
            delete(roster::revoke_key),
        ),
        operation::<roster::Written<super::views::Key>>(
            Need::WriteTeam,
            "post",
            "/api/v1/keys/{name}/rotate",
            &[],
            "Another secret for a key; the one before stays valid for overlap_seconds",
            post(roster::rotate_key),
        ),
        operation::<roster::Written<super::views::Team>>(
            Need::Operate,
            "post",
            "/api/v1/teams",
            &[],
            "Create a team: name, and the members of [team.NAME]",
            post(roster::create_team),
        ),
        operation::<super::views::Team>(
            Need::ReadTeam,
            "get",
            "/api/v1/teams/{name}",
            &[],
            "One team",
            get(keys::team),
        ),
        operation::<roster::Written<super::views::Team>>(
            Need::Operate,
            "patch",
            "/api/v1/teams/{name}",
            &[],
            "Change members of a team; those that are left out stay, null takes one away",
            patch(roster::update_team),
        ),
        operation::<roster::Written<super::views::Team>>(
            Need::Operate,
            "delete",
            "/api/v1/teams/{name}",
            &[],
            "Remove a team that has no keys",
            delete(roster::remove_team),
        ),
        operation::<budgets::Budgets>(
            Need::ReadTeam,
            "get",
            "/api/v1/budgets",
            &["key", "team"],
            "Budgets, and what is used of each",
            get(budgets::list),
        ),
        operation::<budgets::Budgets>(
            Need::WriteTeam,
            "put",
            "/api/v1/budgets",
            &[],
            "Set a budget of a key or a team: key or team, tokens or money, per, zone, rolling",
            put(budgets::set),
        ),
        operation::<budgets::Budgets>(
            Need::WriteTeam,
            "delete",
            "/api/v1/budgets",
            &[],
            "Remove a budget of a key or a team: the body names its unit and window",
            delete(budgets::remove),
        ),
        operation::<roster::AdminTokens>(
            Need::ReadAudit,
            "get",
            "/api/v1/tokens",
            &[],
            "Admin tokens of the store, without their secrets",
            get(roster::tokens),
        ),
        operation::<roster::Written<roster::AdminToken>>(
            Need::WriteTeam,
            "post",
            "/api/v1/tokens",
            &[],
            "Create an admin token: name, role, team, expires. Its secret is in this response only",
            post(roster::create_token),
        ),
        operation::<roster::Written<roster::AdminToken>>(
            Need::WriteTeam,
            "delete",
            "/api/v1/tokens/{name}",
            &[],
            "Revoke an admin token: its sessions end",
            delete(roster::revoke_token),
        ),
        operation::<super::views::Key>(
            Need::ReadTeam,
            "get",
            "/api/v1/keys/{name}",
            &[],
            "One key",
            get(keys::one),
        ),
        operation::<keys::Teams>(
            Need::ReadTeam,
            "get",
            "/api/v1/teams",
            &[],
            "Teams with what is used of their limits",
            get(keys::teams),
        ),
        operation::<keys::Used>(
            Need::ReadAll,
            "get",
            "/api/v1/usage",
            &["by"],
            "What was used since the process started, by key, model or backend",
            get(keys::usage),
        ),
        operation::<requests::Rows>(
            Need::ReadAll,
            "get",
            "/api/v1/requests",
            &["before", "limit", "status", "key", "model", "backend", "reason", "api", "id"],
            "Recent requests, newest first",
            get(requests::list),
        ),
        operation::<requests::Detail>(
            Need::ReadAll,
            "get",
            "/api/v1/requests/{id}",
            &[],
            "One recent request, and why it failed",
            get(requests::one),
        ),
        operation::<Any>(
            Need::ReadTeam,
            "get",
            "/api/v1/ledger/usage",
            &["by", "since", "until", "key", "team", "user", "model", "backend"],
            "Sums of the ledger",
            get(ledger::usage),
        ),
        operation::<Any>(
            Need::ReadTeam,
            "get",
            "/api/v1/ledger/requests",
            &["after", "limit", "since", "until", "key", "team", "model", "backend", "id", "failed"],
            "Settled exchanges of the ledger",
            get(ledger::requests),
        ),
        operation::<Any>(
            Need::ReadAudit,
            "get",
            "/api/v1/ledger/audit",
            &["before", "limit", "since"],
            "What operators did, chained",
            get(ledger::audit),
        ),
        operation::<Any>(
            Need::WriteTeam,
            "post",
            "/key/generate",
            &[],
            "As LiteLLM's: create a key",
            post(litellm::generate),
        ),
        operation::<Any>(
            Need::ReadTeam,
            "get",
            "/key/info",
            &["key"],
            "As LiteLLM's: one key, with what it has cost",
            get(litellm::key_info),
        ),
        operation::<Any>(
            Need::WriteTeam,
            "post",
            "/key/delete",
            &[],
            "As LiteLLM's: revoke keys",
            post(litellm::delete),
        ),
        operation::<Any>(
            Need::ReadTeam,
            "get",
            "/spend/logs",
            &["api_key", "request_id", "start_date", "end_date"],
            "As LiteLLM's: the newest settled requests with their cost",
            get(litellm::logs),
        ),
        operation::<Any>(
            Need::ReadAll,
            "get",
            "/model/info",
            &[],
            "As LiteLLM's: models and their backends",
            get(litellm::models),
        ),
        operation::<explain::Policy>(
            Need::ReadTeam,
            "get",
            "/api/v1/explain",
            &["key", "model", "api"],
            "What a key may do, and which line says so",
            get(explain::policy),
        ),
        operation::<route::Explanation>(
            Need::ReadAll,
            "post",
            "/api/v1/route/explain",
            &[],
            "Which backend a request would get, and why; nothing is sent",
            post(route::explain),
        ),
        operation::<policies::Policies>(
            Need::ReadAll,
            "get",
            "/api/v1/policies",
            &[],
            "Deadlines and bounds that are enforced",
            get(policies::list),
        ),
        operation::<crate::admin::audit::Actions>(
            Need::ReadAudit,
            "get",
            "/api/v1/audit",
            &[],
            "What operators did since the process started",
            audit,
        ),
        operation::<Any>(
            Need::Operate,
            "post",
            "/api/v1/reload",
            &[],
            "Read the configuration file anew, and apply it whole or not at all",
            post(super::reload),
        ),
        operation::<Any>(
            Need::SignedIn,
            "post",
            "/api/v1/try",
            &[],
            "Send a request through the client listener",
            post(playground::send),
        ),
    ]
}

/// The document.
pub(super) fn document() -> Value {
    let mut generator = SchemaSettings::openapi3().into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations() {
        let in_path = operation.path.split('{').skip(1).filter_map(|part| part.split('}').next());
        let parameters: Vec<Value> = in_path
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
            .chain(operation.query.iter().map(|name| json!({ "name": name, "in": "query", "schema": { "type": "string" } })))
            .collect();
        let schema = (operation.response)(&mut generator);
        let told = json!({ "description": "Done", "content": { "application/json": { "schema": schema } } });
        let what = json!({
            "summary": operation.summary,
            "parameters": parameters,
            "responses": { "200": told, "default": { "$ref": "#/components/responses/Problem" } },
        });
        let of_path = paths.entry(operation.path).or_insert_with(|| json!({}));
        of_path[operation.method] = what;
    }
    let problem = json!({
        "type": "object",
        "properties": { "error": { "type": "object", "properties": { "code": { "type": "string" }, "message": { "type": "string" } } } },
    });
    json!({
        "openapi": "3.0.3",
        "info": { "title": "Ringway admin API", "version": env!("CARGO_PKG_VERSION") },
        "security": [{ "token": [] }, { "session": [] }, {}],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": { "Problem": { "description": "Refused", "content": { "application/json": { "schema": problem } } } },
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer" },
                "session": { "type": "apiKey", "in": "cookie", "name": crate::admin::sessions::COOKIE },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_in_the_document_with_a_summary_and_every_reference_leads_somewhere() {
        let document = document();
        let operations = operations();
        assert!(operations.len() > 20);
        for operation in operations {
            let told = &document["paths"][operation.path][operation.method];
            assert_eq!(told["summary"], operation.summary, "{}", operation.path);
        }
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
        assert_eq!(
            document["components"]["schemas"]["Backend"]["properties"]["in_flight"]["type"],
            "integer"
        );
        assert!(text.len() < 256 * 1024);
    }
}
