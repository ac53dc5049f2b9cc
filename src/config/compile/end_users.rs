//! What each end user may use.

use std::sync::Arc;

use super::bounds::within;
use super::caller::Caller;
use super::{Source, budgets};
use crate::config::problem::Report;
use crate::plan::users::UserRules;
use crate::plan::{Key, Model};
use crate::policy::limits::users::Users;

/// The rules; `None` if no key may name an end user.
pub(super) fn compile(
    source: &Source<'_>,
    keys: &[Key],
    models: &[Model],
    report: &mut Report<'_>,
) -> Option<UserRules> {
    let (file, written) = (source.file, &source.file.end_users);
    within(&["end_users", "kept"], written.kept, 1, KEPT_MAX, report);
    let limits = Caller::of_end_users(written, file.estimate.output_tokens).limits(report);
    let budgets = budgets::of_end_users(file, keys, models, report);
    let header = written.header.as_ref().map(|name| {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_token) {
            report.problem(&["end_users", "header"], "expected the name of a header, like \"x-end-user\"");
        }
        name.to_ascii_lowercase().into()
    });
    if !keys.iter().any(|key| key.grant.names_users) {
        if *written != Default::default() {
            report.problem(&["end_users"], "applies to no key: none has names_users = true");
        }
        return None;
    }
    let kept = written.kept.clamp(1, KEPT_MAX);
    let table = Arc::new(Users::new(kept, budgets.len()));
    Some(UserRules { header, limits, budgets, table })
}

/// End users that are known at once. Each takes some hundred bytes.
const KEPT_MAX: usize = 1 << 20;
