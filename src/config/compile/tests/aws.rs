//! Backends in a region of AWS.

use super::*;

fn backend(fake: &Fake, lines: &str) -> Result<Compiled, String> {
    with(fake, &format!("{BASE}[backend.b]\nkind = \"bedrock\"\n{lines}"))
        .map_err(|problems| problems.to_string())
}

fn without_keys() -> Fake {
    let mut fake = Fake::new();
    fake.variables.retain(|name, _| !name.starts_with("AWS_"));
    fake
}

const KEYS: &str =
    "access_key_id = { env = \"GPU_A_KEY\" }\nsecret_access_key = { env = \"OPENAI_API_KEY\" }";

#[test]
fn the_region_and_the_keys_come_from_the_file_or_from_the_environment() {
    let plan = backend(&Fake::new(), "region = \"eu-west-1\"").unwrap().plan;
    let row = &plan.backends[1];
    assert_eq!(&*row.authority, b"bedrock-runtime.eu-west-1.amazonaws.com");
    assert!(row.signer.is_some() && row.credential_lines.is_empty() && row.tls.is_some());

    let mut fake = without_keys();
    fake.variables.insert("AWS_REGION", "us-east-1");
    let plan = backend(&fake, KEYS).unwrap().plan;
    assert_eq!(&*plan.backends[1].authority, b"bedrock-runtime.us-east-1.amazonaws.com");
    assert!(plan.backends[1].signer.is_some());

    fake.variables.insert("AWS_BEARER_TOKEN_BEDROCK", "bedrock-key");
    let plan = backend(&fake, "url = \"https://vpce.example\"").unwrap().plan;
    let row = &plan.backends[1];
    assert_eq!((&*row.authority, row.signer.is_none()), (&b"vpce.example"[..], true));
    assert_eq!(&*row.credential_lines, b"authorization: Bearer bedrock-key\r\n");
}

#[test]
fn what_is_missing_or_there_twice_is_named() {
    for (lines, problem) in [
        ("", "backend.b.region: is missing; expected one like"),
        ("region = \"EU West\"", "backend.b.region: expected a region like"),
        ("region = \"eu-west-1\"", "backend.b.access_key_id: is missing; expected an api_key"),
        (
            "region = \"eu-west-1\"\naccess_key_id = { env = \"GPU_A_KEY\" }",
            "backend.b.secret_access_key: is missing beside the other key",
        ),
        (
            "region = \"eu-west-1\"\nsession_token = { env = \"GPU_A_KEY\" }",
            "backend.b.access_key_id: is missing beside the other key",
        ),
        (
            "region = \"eu-west-1\"\napi_key = { env = \"GPU_A_KEY\" }\naccess_key_id = { env = \"GPU_A_KEY\" }",
            "backend.b.access_key_id: is there beside api_key",
        ),
        ("kind_of = 1", "kind_of"),
    ] {
        let said = backend(&without_keys(), lines).err().expect(lines);
        assert!(said.contains(problem), "{lines}: {said}");
    }
    let said =
        based("", "[backend.b]\nurl = \"https://b\"\nregion = \"eu-west-1\"").err().unwrap().to_string();
    assert!(said.contains("backend.b.region: is for kind = \"bedrock\" only"), "{said}");
}

#[test]
fn a_backend_that_signs_its_requests_is_no_guard() {
    let guard =
        "[guard.g]\naction = \"refuse\"\nexternal = { backend = \"b\", form = \"judge\", model = \"x\" }";
    let said = backend(&Fake::new(), &format!("region = \"eu-west-1\"\n{guard}")).err().unwrap();
    assert!(
        said.contains("guard.g.external.backend: is \"b\", whose requests are signed (SigV4); expected"),
        "{said}"
    );
    let mut fake = without_keys();
    fake.variables.insert("AWS_BEARER_TOKEN_BEDROCK", "bedrock-key");
    assert!(backend(&fake, &format!("region = \"eu-west-1\"\n{guard}")).is_ok(), "one with a key is");
}
