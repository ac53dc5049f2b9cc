//! Which backend a request would get, and why: the choice of `shard::dispatch`, made by the same code over the same cells, with
//! nothing sent and nothing counted. Guards in other processes are not asked, soft limits are not looked at, and what depends on chance
//! or turns (the policies p2c, round_robin and weighted, `percent` without a session) may fall another way for the request itself.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Problem, Shared, json};
use crate::clock;
use crate::dialect::request::{self, Peek};
use crate::dialect::{Api, estimate};
use crate::plan::availability::{Demand, Sighting, Unavailable};
use crate::plan::{Draw, Member, Model, Plan, pattern};
use crate::policy::guard::rules::{Action, Labels};
use crate::policy::guard::whole;
use crate::policy::routing::balance::{self, Terms, View};
use crate::policy::routing::choice;
use crate::policy::routing::conversation::{Conversation, Source};
use crate::policy::routing::prefix::Chain;
use crate::units::{KeyId, Nanos};

/// A request that might be sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question<'a> {
    /// The model; the one that the request names if left out.
    model: Option<String>,
    /// The endpoint, by the name that `serves` of a backend has; chat if left out.
    api: Option<String>,
    /// The name of the key that it would be sent with.
    key: Option<String>,
    /// What a header line calls its session.
    session: Option<String>,
    /// Lines of its head, for rules that look at them.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The request's body.
    #[serde(borrow)]
    request: &'a RawValue,
}

/// The choice among the members of a pool.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "RouteExplanation")]
pub(super) struct Explanation {
    /// The model that would serve it.
    model: String,
    /// The model that was asked for, if a rule sends the request to another one, or a fallback stands in.
    asked: Option<String>,
    /// Why the request would be refused before any backend is called.
    refused: Option<String>,
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
    /// Why it cannot be chosen now: down, drained, failures, limit, unavailable, full, or endpoint; null if it can.
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
    let key = match &question.key {
        None => None,
        Some(name) => {
            let found = plan.keys.named(name).map(|key| key.id);
            Some(found.ok_or_else(|| Problem::not_found(format!("no key is named {name:?}")))?)
        }
    };
    let lines = lines(&question.headers)?;
    let session = question.session.as_deref().map(str::as_bytes);
    let session = session.or_else(|| plan.session_headers.find(&lines));
    let asked = Asked { plan, api, key, lines: &lines, session };
    Ok(json(&asked.explain(question.model, question.request.get().as_bytes().to_vec(), clock::now())?))
}

/// The lines of a head.
fn lines(headers: &BTreeMap<String, String>) -> Result<Vec<u8>, Problem> {
    let mut lines = Vec::new();
    for (name, value) in headers {
        let is_whole =
            HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_str(value).is_ok();
        if !is_whole {
            return Err(Problem::invalid(format!("headers: {name:?} is no header line")));
        }
        lines.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    Ok(lines)
}

pub(super) fn api(name: Option<&str>) -> Result<Api, Problem> {
    let name = name.unwrap_or("chat");
    let known = Api::ALL.iter().copied().filter(|api| !api.is_local() && !api.has_id());
    let found = known.clone().find(|api| api.name() == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = known.map(Api::name).collect();
        Problem::invalid(format!("api: no endpoint \"{name}\"; expected one of {}", names.join(", ")))
    })
}

/// Who would send a request, and how.
struct Asked<'a> {
    plan: &'a Plan,
    api: Api,
    key: Option<KeyId>,
    lines: &'a [u8],
    session: Option<&'a [u8]>,
}

impl Asked<'_> {
    /// Follows a request as a shard would: rules of the model, content rules, then the backends of the model and of its fallbacks.
    fn explain(&self, named: Option<String>, mut body: Vec<u8>, now: Nanos) -> Result<Explanation, Problem> {
        let Self { plan, api, key, .. } = *self;
        let mut name = named.clone();
        let mut routes_left = true;
        let mut moves = 0;
        loop {
            let peek = match &name {
                Some(_) => request::peek_named(api, &body),
                None => request::peek(api, &body),
            };
            let peek = peek.map_err(|fault| Problem::invalid(format!("the request: {}", fault.note)))?;
            let asked = name.clone().unwrap_or_else(|| peek.model_name(&body).into_owned());
            let found = plan.find_asked(api, &asked).map(|id| plan.model(id));
            let model = found
                .ok_or_else(|| Problem::not_found(format!("there is no model and no alias \"{asked}\"")))?;
            let read = Read { of: self, model, asked: &asked, peek: &peek, body: &body };
            if !plan.may_use(key, model.id) {
                return Ok(read.refused("this key may not use the model".to_owned()));
            }
            let seen = Sighting {
                api,
                peek: &peek,
                body: &body,
                lines: self.lines,
                session: self.session,
                key,
                random: now.0,
            };
            let routed = plan.routed(model, &seen).filter(|_| std::mem::take(&mut routes_left));
            if let Some(to) = routed {
                name = Some(plan.model(to).name.to_string());
                continue;
            }
            let Some(guards) = model.reading_guards().filter(|_| moves < MOVES_MAX) else {
                return Ok(read.among_models(named.as_deref(), now));
            };
            moves += 1;
            let applies = |rule| guards.applies(plan, rule, key);
            let checked = whole::request(&guards.guards, &body, &mut Labels::default(), &applies);
            match checked.decides.map(|rule| guards.guards.rule(rule)) {
                Some(rule) => match &rule.action {
                    Action::Route(to) if **to != *asked => name = Some(to.to_string()),
                    Action::Route(_) => return Ok(read.among_models(named.as_deref(), now)),
                    _ => return Ok(read.refused(format!("the content rule {} refuses it", rule.name))),
                },
                None if checked.edits.is_empty() => return Ok(read.among_models(named.as_deref(), now)),
                None => {
                    // What is masked is not what the prompt's place in a cache is looked up by.
                    body = checked.edited(&body);
                    moves = MOVES_MAX;
                }
            }
        }
    }
}

/// Moves from model to model that content rules may make.
const MOVES_MAX: usize = 4;

/// A request for one model.
struct Read<'a> {
    of: &'a Asked<'a>,
    model: &'a Model,
    /// The model, as the request names it.
    asked: &'a str,
    peek: &'a Peek,
    body: &'a [u8],
}

impl Read<'_> {
    /// The first model with a backend that can be called: the own one, or a fallback; the own one if there is none.
    fn among_models(&self, named: Option<&str>, now: Nanos) -> Explanation {
        let Asked { plan, key, .. } = *self.of;
        let fallbacks = self.model.fallbacks.iter().map(|id| plan.model(*id));
        let allowed = fallbacks.filter(|other| {
            plan.may_use(key, other.id) && plan.allows_fallback(key, self.model, other, self.body)
        });
        let models: Vec<&Model> = std::iter::once(self.model).chain(allowed).collect();
        let explained = |index: usize| self.explanation(models[index], index + 1 == models.len(), now);
        let mut explanation = explained(0);
        if explanation.chosen.is_none() {
            let other = (1..models.len()).map(explained).find(|other| other.chosen.is_some());
            explanation = other.unwrap_or(explanation);
        }
        let named = named.map_or_else(|| self.named(), str::to_owned);
        explanation.asked = Some(named).filter(|named| *named != explanation.model);
        explanation
    }

    /// The model that the body names.
    fn named(&self) -> String {
        self.peek.model_name(self.body).into_owned()
    }

    fn refused(&self, why: String) -> Explanation {
        Explanation {
            model: self.model.name.to_string(),
            asked: None,
            refused: Some(why),
            policy: self.model.policy.name(),
            prompt_tokens: 0,
            blocks: 0,
            session: false,
            chosen: None,
            members: Vec::new(),
        }
    }

    fn explanation(&self, model: &Model, is_last_model: bool, now: Nanos) -> Explanation {
        let Self { peek, body, .. } = *self;
        let Asked { plan, api, session, .. } = *self.of;
        let source = Source {
            peek,
            body,
            is_pattern: model.pool.iter().any(|member| member.template.is_some()),
            rates: plan.estimate,
            session,
        };
        let conversation = Conversation::read(Chain::default(), &source);
        let name = if self.model.prefix.is_some() { pattern::hash(self.asked) } else { 0 };
        let demand = Demand { api, is_last_model, bound: None, name };
        let alone = plan.has_one_choice(model, &demand);
        let why: Vec<_> =
            model.pool.iter().map(|member| unavailable(plan, member, &demand, alone, now)).collect();
        let mut views: Vec<View> =
            model.pool.iter().zip(&why).map(|(member, why)| plan.view(member, why.is_none(), now)).collect();
        let prompt_tokens = estimate::prompt(api, body, &plan.estimate).tokens();
        let draw = Draw { prompt_tokens, random: now.0, turn: 0 };
        let request = plan.request(model, Some(&conversation), |_| 0, &mut views, draw);
        let chosen = choice::pick(model.policy, &views, &request);
        let terms = balance::terms(&views, request.prompt_tokens);
        let members = model.pool.iter().zip(&views).zip(why).zip(terms);
        Explanation {
            model: model.name.to_string(),
            asked: None,
            refused: None,
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
            backend: self.of.plan.backend(member.backend).name.to_string(),
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
}

/// Why a member could not be chosen.
fn unavailable(
    plan: &Plan,
    member: &Member,
    demand: &Demand,
    alone: bool,
    now: Nanos,
) -> Option<&'static str> {
    match plan.unavailable(member, demand, alone, now) {
        Some(Unavailable::Unfit) => Some("endpoint"),
        Some(Unavailable::Down) if plan.backends.cells(member.backend).is_drained() => Some("drained"),
        Some(Unavailable::Down) => Some("down"),
        Some(Unavailable::Blocked(cause)) => Some(cause.name()),
        None => plan.is_full(member.backend).then_some("full"),
    }
}

/// Members shown, as many as a choice considers.
const MEMBERS_MAX: usize = 64;
