//! How a backend was chosen, in a header line for a client that may ask.

use std::fmt::Write as _;

use crate::plan::{Model, Plan};
use crate::policy::routing::balance::{self, Terms, View};
use crate::policy::routing::choice::Request;

/// The members of a pool as they were seen: the parts of each one's cost in seconds, and what they rest on. Cost and parts are
/// those of the policy `cost`, whichever chooses.
pub(super) fn line(plan: &Plan, model: &Model, views: &[View], request: &Request) -> String {
    let tokens = request.prompt_tokens;
    let mut text = format!("model={} policy={} tokens={tokens}", model.name, model.policy.name());
    let members = views.iter().zip(&model.pool).zip(balance::terms(views, tokens));
    for ((view, member), terms) in members.take(MEMBERS_MAX) {
        let Terms { slowness, wait, harm, kv } = terms;
        let View { matched_tokens, pending_tokens, in_flight, eligible, has_session, .. } = view;
        let _ = write!(text, "; {} ", plan.backend(member.backend).name);
        if !eligible {
            text.push_str("unavailable ");
        }
        let _ = write!(
            text,
            "cost={:.4} wait={wait:.4} harm={harm:.4} kv={kv:.4} slowness={slowness:.2} matched={matched_tokens} \
             pending={pending_tokens} streams={in_flight}",
            terms.sum()
        );
        if *has_session {
            text.push_str(" session");
        }
    }
    if views.len() > MEMBERS_MAX {
        let _ = write!(text, "; {} more", views.len() - MEMBERS_MAX);
    }
    text
}

/// Members that are shown: clients limit the length of a header line. Chosen, not measured.
const MEMBERS_MAX: usize = 32;
