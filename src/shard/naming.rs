//! The model as the client named it, where that is more than a name in the body: its path names it (Azure's SDK), or it is one
//! of a pattern (`[model."openai/*"]`). Most requests have none of this.

use std::borrow::Cow;

use crate::dialect::request::Peek;
use crate::plan::{Member, Model, Plan, pattern};
use crate::wire::json;

/// How a request names its model.
pub(crate) struct Naming {
    /// As the client wrote it.
    pub(super) asked: Box<str>,
    /// Where in it begins what stands for the star.
    rest_at: usize,
    /// What its failures count by; 0 for a model that is not one of a pattern.
    pub(super) hash: u64,
    /// The body does not have the model's own name: the path names it, or the body has it with a tag.
    is_in_path: bool,
    /// The body names none.
    is_missing: bool,
}

impl Naming {
    /// What there is to know of a name that was asked for; `None` where the body's name is the model's.
    pub(super) fn of(model: &Model, asked: &str, is_in_path: bool, peek: &Peek) -> Option<Box<Self>> {
        let is_in_path = is_in_path || model.prefix.is_none() && *model.name != *asked;
        if model.prefix.is_none() && !is_in_path {
            return None;
        }
        let hash = if model.prefix.is_some() { pattern::hash(asked) } else { 0 };
        let rest_at = model.prefix.as_ref().map_or(0, |prefix| prefix.len());
        Some(Box::new(Self {
            asked: asked.into(),
            rest_at,
            hash,
            is_in_path,
            is_missing: peek.lacks_model(),
        }))
    }

    /// The name of the model at a backend.
    pub(super) fn own<'a>(&'a self, plan: &'a Plan, member: &Member) -> Cow<'a, str> {
        match &member.template {
            Some(template) => template.name(&self.asked[self.rest_at..]),
            None => Cow::Borrowed(&plan.deployment(member.deployment).model),
        }
    }

    /// The same as a JSON string; `None` where the member says what goes into the body.
    pub(super) fn own_json(&self, plan: &Plan, member: &Member) -> Option<Vec<u8>> {
        (member.template.is_some() || self.is_in_path).then(|| {
            let mut out = Vec::new();
            json::quote(&mut out, &self.own(plan, member));
            out
        })
    }

    /// What takes the place of the name in a body that passes otherwise as it is.
    pub(super) fn edit(&self, plan: &Plan, member: &Member) -> Option<Vec<u8>> {
        let own = self.own_json(plan, member)?;
        Some(if self.is_missing { [b",\"model\":", &own[..]].concat() } else { own })
    }
}
