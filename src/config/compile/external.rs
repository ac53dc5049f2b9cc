//! Guards in other processes.

use super::bounds::{TIME_MIN, within};
use super::file::{External as Written, ExternalForm, Guard, GuardAction, OnFailure};
use crate::config::problem::Report;
use crate::config::quantity::Time;
use crate::dialect::texts::Place;
use crate::plan::Backend;
use crate::plan::guards::External;
use crate::policy::guard::external::Form;
use crate::units::GuardId;

/// The rule that a guard belongs to.
pub(super) struct At<'a> {
    pub(super) name: &'a str,
    pub(super) id: GuardId,
    pub(super) places: &'a [Place],
}

/// The guard of a rule, if it can be asked.
pub(super) fn compile(
    At { name, id, places }: At<'_>,
    rule: &Guard,
    written: &Written,
    backends: &[Backend],
    report: &mut Report<'_>,
) -> Option<External> {
    let at = |key| ["guard", name, "external", key];
    if !rule.detect.is_empty() || !rule.patterns.is_empty() || rule.words != Default::default() {
        report.problem(
            &["guard", name, "external"],
            "stands beside detect, patterns or words; expected a rule of its own",
        );
    }
    if !matches!(rule.action, GuardAction::Log | GuardAction::Refuse) {
        report.problem(&["guard", name, "action"], "expected \"log\" or \"refuse\" for an external guard");
    }
    within(&at("timeout"), written.timeout, TIME_MIN, Time::minutes(1), report);
    within(&at("keep"), written.keep, Time::seconds(0), Time::minutes(24 * 60), report);
    let path = written.path.as_deref().unwrap_or(form(name, written, report).path());
    let is_path = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_path {
        report.problem(&at("path"), format!("is \"{path}\"; expected a path that begins with /"));
    }
    let backend = backends.iter().find(|backend| *backend.name == *written.backend);
    let Some(backend) = backend else {
        report.problem(&at("backend"), format!("there is no backend \"{}\"", written.backend));
        return None;
    };
    if backend.signer.is_some() {
        let text = format!(
            "is \"{}\", whose requests are signed (SigV4); expected a backend with an API key, or with none",
            written.backend
        );
        report.problem(&at("backend"), text);
        return None;
    }
    Some(External {
        id,
        places: places.to_vec(),
        enforces: rule.action == GuardAction::Refuse && !rule.shadow,
        is_shadow: rule.shadow,
        backend: backend.id,
        path: path.as_bytes().into(),
        form: form(name, written, report),
        timeout: written.timeout.0,
        fails_open: written.on_failure == OnFailure::Pass,
        keep: written.keep.0,
    })
}

fn form(name: &str, written: &Written, report: &mut Report<'_>) -> Form {
    let at = |key| ["guard", name, "external", key];
    let own = |value: &Option<String>, default: &str| value.as_deref().unwrap_or(default).into();
    match written.form {
        ExternalForm::Webhook => Form::Webhook,
        ExternalForm::Moderations => Form::Moderations { model: written.model.as_deref().map(Into::into) },
        ExternalForm::Judge => {
            if written.model.is_none() {
                report.problem(&at("model"), "is missing; a judge is a model");
            }
            let prompt: Box<str> = own(&written.prompt, PROMPT);
            if prompt.matches("{text}").count() != 1 {
                report.problem(&at("prompt"), "expected {text} in it once, which stands for the texts");
            }
            let (allow, refuse): (Box<str>, Box<str>) =
                (own(&written.allow, "safe"), own(&written.refuse, "unsafe"));
            if allow.trim().is_empty() || refuse.trim().is_empty() || allow.eq_ignore_ascii_case(&refuse) {
                report.problem(&at("refuse"), "expected two different words in allow and refuse");
            }
            Form::Judge { model: own(&written.model, ""), prompt, allow, refuse }
        }
    }
}

/// What a judge is asked that has no prompt of its own. Models that are made for it have their own template.
const PROMPT: &str =
    "Is the following message to an assistant safe? Respond with the one word safe or unsafe.\n\n{text}";
