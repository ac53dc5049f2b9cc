//! What changes make of the roster, without a store.

use serde_json::{Value, json};

use super::*;
use crate::store::SecretRow;

fn author(scope: Scope) -> Author {
    Author { name: "token".to_owned(), origin: "127.0.0.1".to_owned(), token: None, scope }
}

fn members(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn create(kind: AccessKind, name: &str, value: Value) -> Change {
    Change::Create { kind, name: name.to_owned(), members: members(value) }
}

/// Makes a change as somebody of this scope.
fn make(roster: &mut Roster, change: &Change, scope: &Scope, now_ms: u64) -> Result<Edit, ChangeError> {
    let edit = change.edit(roster, &author(scope.clone()), now_ms)?;
    roster.apply(&edit);
    Ok(edit)
}

fn valid(roster: &Roster, name: &str, now_ms: u64) -> usize {
    let (stored, unfit) = roster.stored(now_ms, &BTreeMap::new());
    assert!(unfit.is_empty(), "{unfit:?}");
    stored.keys.get(name).map_or(0, |key| 1 + key.earlier.len())
}

#[test]
fn a_rotation_leaves_two_secrets_at_most_and_one_after_the_overlap() {
    let mut roster = Roster::default();
    make(&mut roster, &create(AccessKind::Key, "k", json!({})), &Scope::All, 0).unwrap();
    let rotate = |overlap_ms| Change::Rotate { name: "k".to_owned(), overlap_ms };
    make(&mut roster, &rotate(1_000), &Scope::All, 100).unwrap();
    assert_eq!((valid(&roster, "k", 200), roster.due(100)), (2, Some(1_100)));
    make(&mut roster, &rotate(500), &Scope::All, 200).unwrap();
    assert_eq!(valid(&roster, "k", 300), 2);
    assert_eq!((valid(&roster, "k", 699), valid(&roster, "k", 700), roster.due(700)), (2, 1, None));
    make(&mut roster, &rotate(0), &Scope::All, 300).unwrap();
    assert_eq!(valid(&roster, "k", 300), 1);
    make(&mut roster, &Change::Revoke { kind: AccessKind::Key, name: "k".to_owned() }, &Scope::All, 400)
        .unwrap();
    assert_eq!(valid(&roster, "k", 400), 0);
    assert!(roster.stored(400, &BTreeMap::new()).0.had_keys, "requests need a key from now on");
}

#[test]
fn an_admin_of_a_team_changes_its_keys_and_nothing_else() {
    let mut roster = Roster::default();
    for name in ["mine", "other"] {
        make(&mut roster, &create(AccessKind::Team, name, json!({})), &Scope::All, 0).unwrap();
    }
    make(&mut roster, &create(AccessKind::Key, "theirs", json!({ "team": "other" })), &Scope::All, 0)
        .unwrap();
    make(&mut roster, &create(AccessKind::Key, "free", json!({})), &Scope::All, 0).unwrap();
    let scope = Scope::Team("mine".to_owned());
    let own = make(&mut roster, &create(AccessKind::Key, "own", json!({})), &scope, 0).unwrap();
    assert!(own.row.body.contains(r#""team":"mine""#), "{}", own.row.body);
    let update = |name: &str, value: Value| Change::Update {
        kind: AccessKind::Key,
        name: name.to_owned(),
        patch: members(value),
    };
    assert!(make(&mut roster, &update("own", json!({ "tags": ["a"] })), &scope, 0).is_ok());
    let team = |name: &str| Change::Update {
        kind: AccessKind::Team,
        name: name.to_owned(),
        patch: members(json!({ "tokens_per_minute": null })),
    };
    let token =
        |role: &str, team: Value| create(AccessKind::AdminToken, "t", json!({ "role": role, "team": team }));
    for change in [
        update("theirs", json!({ "tags": [] })),
        update("free", json!({ "tags": [] })),
        update("own", json!({ "team": "other" })),
        update("own", json!({ "team": null })),
        create(AccessKind::Key, "more", json!({ "team": "other" })),
        create(AccessKind::Team, "more", json!({})),
        Change::Rotate { name: "theirs".to_owned(), overlap_ms: 0 },
        Change::Revoke { kind: AccessKind::Key, name: "theirs".to_owned() },
        Change::Revoke { kind: AccessKind::Team, name: "mine".to_owned() },
        team("mine"),
        team("other"),
        token("admin", json!("other")),
        token("owner", Value::Null),
        token("auditor", Value::Null),
    ] {
        let before = roster.rows.len();
        let refused = make(&mut roster, &change, &scope, 0).err();
        let refused = refused.unwrap_or_else(|| panic!("let through: {change:?}"));
        assert!(
            matches!(refused, ChangeError::Forbidden(_) | ChangeError::NotFound(_) | ChangeError::Invalid(_)),
            "{refused:?}"
        );
        assert_eq!(roster.rows.len(), before);
    }
    // A key of another team is not there for them, not even to be refused.
    let hidden = make(&mut roster, &update("theirs", json!({})), &scope, 0).err();
    assert_eq!(hidden, Some(ChangeError::NotFound("there is no key theirs".to_owned())));
    assert!(make(&mut roster, &token("viewer", json!("mine")), &scope, 0).is_ok());
}

#[test]
fn a_budget_takes_the_place_of_the_one_with_its_unit_and_window() {
    let mut roster = Roster::default();
    make(&mut roster, &create(AccessKind::Key, "k", json!({})), &Scope::All, 0).unwrap();
    let set = |value: Value| Change::SetBudget {
        kind: AccessKind::Key,
        name: "k".to_owned(),
        budget: members(value),
    };
    for budget in [
        json!({ "tokens": 1, "per": "day" }),
        json!({ "tokens": 2, "per": "day", "zone": "UTC" }),
        json!({ "tokens": 3, "per": "day", "zone": "Europe/Berlin" }),
        json!({ "tokens": 4, "per": "week" }),
        json!({ "tokens": 5, "per": "day", "rolling": true }),
        json!({ "money": 6.0, "per": "day" }),
        json!({ "tokens": 7, "per": "day", "rolling": true }),
    ] {
        make(&mut roster, &set(budget), &Scope::All, 0).unwrap();
    }
    let budgets = &roster.find(AccessKind::Key, "k").unwrap().members["budgets"];
    let amounts: Vec<&Value> = budgets
        .as_array()
        .unwrap()
        .iter()
        .map(|budget| budget.get("tokens").unwrap_or(&budget["money"]))
        .collect();
    assert_eq!(amounts, [&json!(2), &json!(3), &json!(4), &json!(6.0), &json!(7)]);
}

#[test]
fn a_row_that_cannot_be_read_is_disabled_and_no_wider() {
    let row = |body: &str| AccessRow {
        kind: AccessKind::Key,
        name: "k".to_owned(),
        public_id: String::new(),
        body: body.to_owned(),
        created_ms: 0,
        changed_ms: 0,
        revoked_ms: None,
        secrets: vec![SecretRow { digest: [1; 32], created_ms: 0, valid_until_ms: None }],
    };
    for body in ["", "[]", r#"{"models":["m"],"of_a_newer_program":1}"#] {
        let roster = Roster::new(AccessRows { revision: 1, rows: vec![row(body)] });
        let (stored, unfit) = roster.stored(0, &roster.disabled);
        assert!(stored.keys.is_empty() && stored.had_keys, "{body}");
        assert_eq!(roster.disabled.len() + unfit.len(), 1, "{body}");
    }
}

#[test]
fn a_token_ends_no_later_than_the_token_that_made_it() {
    let mut roster = Roster::default();
    let token = |name: &str, expires: Value| {
        create(AccessKind::AdminToken, name, json!({ "role": "owner", "expires": expires }))
    };
    let by = |roster: &mut Roster, maker: &str, change: &Change| {
        let author = Author { token: Some(maker.to_owned()), ..author(Scope::All) };
        change.edit(roster, &author, 0).map(|edit| _ = roster.apply(&edit))
    };
    let names = |roster: &Roster| roster.operators().into_iter().map(|it| it.name).collect::<Vec<_>>();
    make(&mut roster, &token("a", json!("2030-01-01T00:00:00Z")), &Scope::All, 0).unwrap();
    let late = by(&mut roster, "a", &token("late", json!("2030-01-01T00:00:00.001Z"))).unwrap_err();
    assert!(format!("{late:?}").contains("expires: expected 2030-01-01T00:00:00Z at the latest"), "{late:?}");
    by(&mut roster, "a", &token("early", json!("2029-01-01T00:00:00Z"))).unwrap();
    by(&mut roster, "a", &token("unsaid", Value::Null)).unwrap();
    let unsaid = roster.find(AccessKind::AdminToken, "unsaid").unwrap();
    assert_eq!(unsaid.members.get("expires"), Some(&json!("2030-01-01T00:00:00Z")));
    by(&mut roster, "unsaid", &token("third", Value::Null)).unwrap();
    let forged = create(AccessKind::AdminToken, "x", json!({ "role": "owner", "made_by": "early" }));
    assert!(matches!(by(&mut roster, "a", &forged), Err(ChangeError::Invalid(_))));
    make(&mut roster, &token("own", Value::Null), &Scope::All, 0).unwrap();
    assert_eq!(names(&roster), ["a", "early", "own", "third", "unsaid"]);
    let revoke = Change::Revoke { kind: AccessKind::AdminToken, name: "a".to_owned() };
    make(&mut roster, &revoke, &Scope::All, 1).unwrap();
    assert_eq!(names(&roster), ["own"], "what it made ends with it");
    assert!(matches!(by(&mut roster, "third", &token("y", Value::Null)), Err(ChangeError::Forbidden(_))));
}
