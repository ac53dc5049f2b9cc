//! The budgets of keys and teams.

use jiff::tz::TimeZone;

use super::bounds::within;
use super::file;
use crate::config::problem::Report;
use crate::config::quantity::Time;
use crate::plan::{BudgetName, BudgetRow, Holder, Key, Model, Team};
use crate::policy::limits::budget::{Budget, MONEY, Per, Soft, SoftAction, Unit, Window};
use crate::units::{BudgetId, Nanos};

/// One row per budget, in the order of their names; and for each key the ids of its own and of its team's.
pub(super) fn compile(
    file: &file::File,
    teams: &[Team],
    keys: &mut [Key],
    models: &[Model],
    report: &mut Report<'_>,
) -> Vec<BudgetRow> {
    let mut rows = Vec::new();
    for (name, team) in &file.team {
        of_holder(
            &["team", name],
            &Holder::Team(name.as_str().into()),
            &team.budgets,
            models,
            &mut rows,
            report,
        );
    }
    for (name, key) in &file.key {
        of_holder(
            &["key", name],
            &Holder::Key(name.as_str().into()),
            &key.budgets,
            models,
            &mut rows,
            report,
        );
    }
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    rows.dedup_by(|one, other| one.name == other.name); // reported already
    for key in keys {
        let team = key.team.map(|team| Holder::Team(teams[team.index()].name.clone()));
        let holders = std::iter::once(Holder::Key(key.name.clone())).chain(team);
        key.grant.budgets = holders.flat_map(|holder| ids(&rows, &holder)).collect();
        check_prices(key, &rows, models, report);
    }
    rows
}

fn ids(rows: &[BudgetRow], holder: &Holder) -> impl Iterator<Item = BudgetId> + use<> {
    let start = rows.partition_point(|row| row.name.holder < *holder);
    let count = rows[start..].iter().take_while(|row| row.name.holder == *holder).count();
    (start..start + count).map(BudgetId::new)
}

fn of_holder(
    at: &[&str],
    holder: &Holder,
    written: &[file::Budget],
    models: &[Model],
    rows: &mut Vec<BudgetRow>,
    report: &mut Report<'_>,
) {
    if written.len() > BUDGETS_MAX {
        let text = format!("has {} budgets; expected at most {BUDGETS_MAX}", written.len());
        report.problem(&[at, &["budgets"]].concat(), text);
    }
    let start = rows.len();
    for (index, budget) in written.iter().enumerate() {
        let index = format!("[{index}]");
        let path = [at, &["budgets", &index]].concat();
        let Some(budget) = budget_of(&path, budget, models, report) else { continue };
        let name = BudgetName {
            holder: holder.clone(),
            unit: budget.unit,
            per: budget.window.per(),
            zone: budget.window.zone().map(Into::into),
        };
        if rows[start..].iter().any(|row| row.name == name) {
            report.problem(&path, format!("is a second budget of the same kind {}", budget.window));
        }
        rows.push(BudgetRow { name, budget });
    }
}

fn budget_of(
    path: &[&str],
    written: &file::Budget,
    models: &[Model],
    report: &mut Report<'_>,
) -> Option<Budget> {
    let (unit, most) = match (written.tokens, written.money) {
        (Some(tokens), None) => {
            within(&[path, &["tokens"]].concat(), tokens, 1, TOKENS_MAX, report);
            (Unit::Tokens, tokens)
        }
        (None, Some(money)) => {
            within(&[path, &["money"]].concat(), money, MONEY_MIN, MONEY_MAX, report);
            (Unit::Money, (money * MONEY as f64).round() as u64)
        }
        _ => {
            report.problem(path, "expected exactly one of tokens and money");
            return None;
        }
    };
    let per = match written.per {
        file::Per::Minute => Per::Minute,
        file::Per::Hour => Per::Hour,
        file::Per::Day => Per::Day,
        file::Per::Week => Per::Week,
        file::Per::Month => Per::Month,
    };
    let at = [path, &["zone"]].concat();
    let window = match (&written.zone, written.rolling) {
        (None, true) => Window::rolling(per),
        (None, false) => Window::calendar(per, TimeZone::UTC),
        (Some(_), true) => {
            report.problem(&at, "a rolling window has no zone");
            return None;
        }
        (Some(zone), false) => {
            let expected = "expected a zone of the IANA database, like \"Europe/Berlin\"";
            Window::calendar(per, report.take(&at, TimeZone::get(zone).map_err(|_| expected))?)
        }
    };
    let soft = soft_limits(path, &written.soft, models, report);
    Some(Budget { unit, most, window, shadow: written.shadow, soft })
}

/// What happens before a budget refuses, the smallest share first.
fn soft_limits(
    path: &[&str],
    written: &[file::SoftLimit],
    models: &[Model],
    report: &mut Report<'_>,
) -> Box<[Soft]> {
    let mut soft = Vec::new();
    for (index, limit) in written.iter().enumerate() {
        let index = format!("[{index}]");
        let at = [path, &["soft", &index]].concat();
        let of = |field| [&at[..], &[field]].concat();
        within(&of("at"), limit.at, 0.001, 1.0, report);
        let action = match (limit.action, limit.wait, &limit.model) {
            (file::SoftAction::Warn, None, None) => SoftAction::Warn,
            (file::SoftAction::Throttle, Some(wait), None) => {
                within(&of("wait"), wait, Time(Nanos(1_000_000)), THROTTLE_MAX, report);
                SoftAction::Throttle(wait.0)
            }
            (file::SoftAction::Downgrade, None, Some(name)) => {
                let is_it = |model: &&Model| {
                    *model.name == **name || model.aliases.iter().any(|alias| **alias == **name)
                };
                let found = models.iter().find(is_it).filter(|model| model.prefix.is_none());
                match report.take(&of("model"), found.ok_or("is no model and no alias")) {
                    Some(model) => SoftAction::Downgrade(model.id),
                    None => continue,
                }
            }
            _ => {
                report
                    .problem(&at, "expected wait with throttle, model with downgrade, and neither with warn");
                continue;
            }
        };
        soft.push(Soft { at_permille: (limit.at * 1000.0).round() as u64, action });
    }
    if !soft.is_sorted_by_key(|soft: &Soft| soft.at_permille) {
        report.problem(&[path, &["soft"]].concat(), "expected the shares in ascending order");
    }
    soft.into()
}

/// The budgets that each end user has.
pub(super) fn of_end_users(
    file: &file::File,
    keys: &[Key],
    models: &[Model],
    report: &mut Report<'_>,
) -> Box<[BudgetRow]> {
    let mut rows = Vec::new();
    of_holder(&["end_users"], &Holder::EndUser, &file.end_users.budgets, models, &mut rows, report);
    rows.dedup_by(|one, other| one.name == other.name); // reported already
    if rows.iter().any(|row| row.budget.unit == Unit::Money) {
        let names = |key: &&Key| key.grant.names_users;
        keys.iter()
            .filter(names)
            .for_each(|key| check_priced(key, &["end_users", "budgets"], models, report));
    }
    rows.into()
}

/// A budget of money needs to know what every model costs that can be asked for.
fn check_prices(key: &Key, rows: &[BudgetRow], models: &[Model], report: &mut Report<'_>) {
    let row = |id: &BudgetId| &rows[id.index()];
    let Some(row) = key.grant.budgets.iter().map(row).find(|row| row.budget.unit == Unit::Money) else {
        return;
    };
    let (table, name) = match &row.name.holder {
        Holder::Key(name) => ("key", name),
        Holder::Team(name) => ("team", name),
        Holder::EndUser => return,
    };
    check_priced(key, &[table, name, "budgets"], models, report);
}

fn check_priced(key: &Key, at: &[&str], models: &[Model], report: &mut Report<'_>) {
    let unpriced = |model: &&Model| {
        key.grant.models[model.id.index()] && model.pool.iter().any(|member| member.price.is_none())
    };
    if let Some(model) = models.iter().find(unpriced) {
        let text = format!(
            "has a budget of money, but the model {0} of key {1} has no price: add [price.\"{0}\"], or leave it out of models",
            model.name, key.name
        );
        report.problem(at, text);
    }
}

/// Budgets of one key or team: each costs every request a look. Chosen, not measured.
const BUDGETS_MAX: usize = 8;
/// The longest wait of a throttled request: clients have timeouts, too.
const THROTTLE_MAX: Time = Time::seconds(60);
/// The largest budget of tokens.
const TOKENS_MAX: u64 = 1 << 50;
/// The smallest and the largest budget of money.
const MONEY_MIN: f64 = 1e-6;
const MONEY_MAX: f64 = 1e9;
