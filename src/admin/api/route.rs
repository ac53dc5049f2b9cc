//! Which backend a request would get, and why: the choice of `shard::dispatch`, made by the same code over the same cells, with
//! nothing sent and nothing counted.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Problem, Shared, json};
use crate::clock;
use crate::dialect::request::{self, Peek};
use crate::dialect::{Api, estimate};
use crate::plan::cells::Health;
use crate::plan::{Draw, Member, Model, Plan};
use crate::policy::routing::balance::{self, Terms, View};
use crate::policy::routing::choice;
use crate::policy::routing::conversation::{Conversation, Source};
use crate::policy::routing::prefix::Chain;
use crate::units::Nanos;

/// A request that might be sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question<'a> {
    /// The model; the one that the request names if left out.
    model: Option<String>,
    /// The endpoint, by the name that `serves` of a backend has; chat if left out.
    api: Option<String>,
    /// What a header line calls its session.
    session: Option<String>,
    /// The request's body.
    #[serde(borrow)]
    request: &'a RawValue,
}

/// The choice among the members of a pool.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "RouteExplanation")]
pub(super) struct Explanation {
    model: String,
    policy: &'static str,
    /// Tokens of the prompt, by estimate.
    prompt_tokens: u64,
    /// Blocks of its text that can be found in a cache.
    blocks: usize,
    /// The request names its session.
    session: bool,
    /// The backend that it would be sent to; null if none can take it.
    chosen: Option<String>,
    /// In the order of the model's backends.
    members: Vec<MemberView>,
}

/// One member as the choice saw it. Times in seconds; the cost is slowness * (wait + harm) + kv, whichever policy chooses.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "RouteMember")]
struct MemberView {
    backend: String,
    /// Why it cannot be chosen now: down, drained, failures, limit, unavailable, or endpoint; null if it can.
    unavailable: Option<&'static str>,
    cost: f64,
    wait: f64,
    harm: f64,
    kv: f64,
    slowness: f64,
    /// Tokens of the prompt that it should have in its cache.
    matched_tokens: u64,
    /// It served the session last.
    session: bool,
    in_flight: u64,
    pending_tokens: u64,
    kv_tokens: u64,
    /// 0 if unknown.
    kv_capacity: u64,
    weight: u32,
}

/// `POST /api/v1/route/explain`.
pub(super) async fn explain(State(shared): State<Shared>, bytes: Bytes) -> Result<Response, Problem> {
    let question: Question<'_> =
        serde_json::from_slice(&bytes).map_err(|error| Problem::invalid(format!("the body: {error}")))?;
    let watch = shared.current.load_full();
    let plan = &watch.plan;
    let api = api(question.api.as_deref())?;
    let body = question.request.get().as_bytes();
    let peek = match &question.model {
        Some(_) => request::peek_named(api, body),
        None => request::peek(api, body),
    };
    let peek = peek.map_err(|fault| Problem::invalid(format!("the request: {}", fault.note)))?;
    let name = question.model.clone().unwrap_or_else(|| peek.model_name(body).into_owned());
    let model = plan
        .find_model(&name)
        .map(|id| plan.model(id))
        .ok_or_else(|| Problem::not_found(format!("there is no model and no alias \"{name}\"")))?;
    let read = Read { plan, model, api, peek: &peek, body, session: question.session.as_deref() };
    Ok(json(&read.explanation(clock::now())))
}

fn api(name: Option<&str>) -> Result<Api, Problem> {
    let name = name.unwrap_or("chat");
    let known = Api::ALL.iter().copied().filter(|api| !api.is_local() && !api.has_id());
    let found = known.clone().find(|api| api.name() == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = known.map(Api::name).collect();
        Problem::invalid(format!("api: no endpoint \"{name}\"; expected one of {}", names.join(", ")))
    })
}

/// A question that was understood.
struct Read<'a> {
    plan: &'a Plan,
    model: &'a Model,
    api: Api,
    peek: &'a Peek,
    body: &'a [u8],
    session: Option<&'a str>,
}

impl Read<'_> {
    fn explanation(&self, now: Nanos) -> Explanation {
        let Self { plan, model, peek, body, .. } = *self;
        let source = Source {
            peek,
            body,
            is_pattern: model.pool.iter().any(|member| member.template.is_some()),
            rates: plan.estimate,
            session: self.session.map(str::as_bytes),
        };
        let conversation = Conversation::read(Chain::default(), &source);
        let why: Vec<_> = model.pool.iter().map(|member| self.unavailable(member, now)).collect();
        let mut views: Vec<View> =
            model.pool.iter().zip(&why).map(|(member, why)| plan.view(member, why.is_none(), now)).collect();
        let prompt_tokens = estimate::prompt(self.api, body, &plan.estimate).tokens();
        let draw = Draw { prompt_tokens, random: now.0, turn: 0 };
        let request = plan.request(model, Some(&conversation), |_| 0, &mut views, draw);
        let chosen = choice::pick(model.policy, &views, &request);
        let terms = balance::terms(&views, request.prompt_tokens);
        let members = model.pool.iter().zip(&views).zip(why).zip(terms);
        Explanation {
            model: model.name.to_string(),
            policy: model.policy.name(),
            prompt_tokens: request.prompt_tokens,
            blocks: conversation.blocks().len(),
            session: conversation.session().is_some(),
            chosen: chosen.map(|index| plan.backend(model.pool[index].backend).name.to_string()),
            members: members
                .take(MEMBERS_MAX)
                .map(|(((member, view), why), terms)| self.member(member, view, why, terms))
                .collect(),
        }
    }

    fn member(
        &self,
        member: &Member,
        view: &View,
        unavailable: Option<&'static str>,
        terms: Terms,
    ) -> MemberView {
        MemberView {
            backend: self.plan.backend(member.backend).name.to_string(),
            unavailable,
            cost: terms.sum(),
            wait: terms.wait,
            harm: terms.harm,
            kv: terms.kv,
            slowness: terms.slowness,
            matched_tokens: view.matched_tokens,
            session: view.has_session,
            in_flight: view.in_flight,
            pending_tokens: view.pending_tokens,
            kv_tokens: view.kv_tokens,
            kv_capacity: view.kv_capacity,
            weight: view.weight,
        }
    }

    /// Why a member could not be chosen.
    fn unavailable(&self, member: &Member, now: Nanos) -> Option<&'static str> {
        let (plan, cells) = (self.plan, self.plan.backends.cells(member.backend));
        if plan.backend(member.backend).provider.call(self.api).is_none() {
            return Some("endpoint");
        }
        if cells.is_drained() {
            return Some("drained");
        }
        if cells.health() == Health::Down {
            return Some("down");
        }
        let alone = self.model.pool.len() == 1;
        plan.failure_state(member.deployment, alone).blocked(now).map(|(cause, _)| cause.name())
    }
}

/// Members shown, as many as a choice considers.
const MEMBERS_MAX: usize = 64;
