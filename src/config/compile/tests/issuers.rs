//! Issuers of JSON Web Tokens, and the rows that they make.

use super::*;

/// `[team.a]`, `[team.b]`, and an issuer with these lines, whose table is at line 8.
fn issuer(lines: &str) -> Result<Compiled, Problems> {
    based("", &format!("[team.a]\n[team.b]\n[issuer.corp]\n{lines}"))
}

/// An issuer with a URL and an audience, and these lines.
fn sound(lines: &str) -> Result<Compiled, Problems> {
    issuer(&format!("url = \"https://h/r\"\naudience = [\"x\"]\n{lines}"))
}

#[test]
fn each_team_of_an_issuer_is_a_row_among_the_keys_that_no_secret_opens() {
    let lines = "claims = { team = \"groups\" }\nteams = { \"g 1\" = \"a\", g2 = \"a\" }\nteam = \"b\"\nmodels = [\"m\"]";
    let plan = sound(lines).unwrap().plan;
    let names: Vec<_> = plan.keys.iter().map(|key| (&*key.name, key.team.map(|team| team.index()))).collect();
    assert_eq!(names, [("corp.a", Some(0)), ("corp.b", Some(1))]);
    let row = &plan.issuers[0];
    let of = |values: &[&str]| {
        row.key(&values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>()).map(|id| id.index())
    };
    assert_eq!([of(&["g 1"]), of(&["x", "g2", "g 1"]), of(&[]), of(&["a"])], [Ok(0), Ok(0), Ok(1), Ok(1)]);
    assert!(plan.keys_required && plan.users.is_some());
    assert!(plan.keys.iter().all(|key| plan.key_table.find(&key.credential.digest).is_none()));
    assert_eq!(&*row.source.url, "https://h/r/.well-known/openid-configuration");
}

#[test]
fn without_a_map_the_values_are_teams_and_two_of_them_are_refused() {
    let plan = sound("claims = { team = \"groups\" }").unwrap().plan;
    let of = |values: &[&str]| {
        plan.issuers[0].key(&values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>())
    };
    assert!(of(&["b"]).is_ok() && of(&["a", "a"]).is_ok());
    assert!(of(&["a", "b"]).unwrap_err().contains("more than one"));
    assert!(of(&["c"]).unwrap_err().contains("none"));
    let plan = sound("").unwrap().plan;
    assert_eq!((&*plan.keys[0].name, plan.keys[0].team), ("corp", None));
}

#[test]
fn what_is_wrong_with_an_issuer_is_said_at_its_lines() {
    for (lines, part) in [
        ("", "f.toml:8: issuer.corp.url: is missing"),
        ("url = \"http://h\"", "f.toml:9: issuer.corp.url: expected https"),
        ("url = \"h\"", "f.toml:9: issuer.corp.url: expected http://HOST"),
        ("url = \"https://h\"", "f.toml:8: issuer.corp.audience: expected what tokens have for 'aud'"),
        ("url = \"https://h\"\naudience = [\"\"]", "f.toml:10: issuer.corp.audience: expected"),
        ("url = \"https://h\"\njwks_url = \"https://h\"", "issuer.corp.jwks_url: is there beside url"),
        ("jwks_url = \"https://h/k\"", "f.toml:8: issuer.corp.issuer: is missing"),
    ] {
        let said = issuer(lines).err().map(|problems| problems.to_string()).unwrap_or_default();
        assert!(said.contains(part), "{lines}: {said}");
    }
    for (lines, part) in [
        (
            "algorithms = [\"RS256\", \"none\"]",
            "f.toml:11: issuer.corp.algorithms[1]: is \"none\"; expected one with a public key",
        ),
        ("algorithms = [\"HS256\"]", "issuer.corp.algorithms[0]: is \"HS256\""),
        ("algorithms = []", "issuer.corp.algorithms: is empty"),
        ("clock_skew = \"11m\"", "issuer.corp.clock_skew: is 11m"),
        ("refresh_min = \"10ms\"", "issuer.corp.refresh_min: is 10ms"),
        ("refresh = \"1s\"", "issuer.corp.refresh: is 1s"),
        ("age_max = \"1m\"", "issuer.corp.age_max: is 1m"),
        ("claims = { user = \"a..b\" }", "issuer.corp.claims.user: expected the name of a claim"),
        ("claims = { team = \"\" }", "issuer.corp.claims.team: expected the name of a claim"),
        ("required = { scope = [] }", "issuer.corp.required.scope: is empty"),
        ("teams = { x = \"a\" }", "issuer.corp.teams: has no claims.team"),
        (
            "claims = { team = \"g\" }\nteams = { x = \"z\" }",
            "f.toml:12: issuer.corp.teams.x: there is no [team.z]",
        ),
        ("team = \"z\"", "f.toml:11: issuer.corp.team: there is no [team.z]"),
        ("ca_file = \"nowhere.pem\"", "issuer.corp.ca_file: cannot read"),
        ("models = [\"z\"]", "f.toml:11: issuer.corp.models[0]: \"z\" fits no model"),
        ("requests_burst = 5", "f.toml:11: issuer.corp.requests_burst: has no requests_per_minute"),
        (
            "[issuer.other]\nurl = \"https://h/r\"\naudience = [\"x\"]",
            "issuer.other.url: is that of [issuer.corp] too",
        ),
    ] {
        let said = sound(lines).err().map(|problems| problems.to_string()).unwrap_or_default();
        assert!(said.contains(part), "{lines}: {said}");
    }
    let key = format!("[key.corp]\nsha256 = \"{DIGEST}\"");
    let said = sound(&key).err().unwrap().to_string();
    assert!(
        said.contains("f.toml:8: issuer.corp: makes the row 'corp', and [key.corp] has that name"),
        "{said}"
    );
}
