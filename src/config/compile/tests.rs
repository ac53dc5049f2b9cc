mod aws;
mod egress;
mod issuers;
mod refusals;
mod samples;

use std::collections::HashMap;
use std::io;

use rustls::pki_types::CertificateDer;

use super::*;
use crate::config::cores::{Core, Machine};
use crate::config::read;
use crate::dialect::Api;
use crate::plan::Target;
use crate::policy::auth::credential;
use crate::policy::routing::failure_state::LimitScope;
use crate::provider::Base;
use crate::units::{BackendId, Nanos};

/// An environment made of what a test puts there.
struct Fake {
    variables: HashMap<&'static str, &'static str>,
    files: HashMap<PathBuf, Vec<u8>>,
    machine: Machine,
    roots: Vec<CertificateDer<'static>>,
}

impl Fake {
    /// Eight plain cores, two keys in variables, a certificate of our own that the machine trusts.
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let pem = made.cert.pem().into_bytes();
        let files = [
            ("/etc/ringway/tls/cert.pem", pem.clone()),
            ("/etc/ringway/tls/ca.pem", pem),
            ("/etc/ringway/tls/key.pem", made.signing_key.serialize_pem().into_bytes()),
            ("/etc/ringway/secret", b"sk-from-file\n".to_vec()),
            ("/etc/ringway/token", b"rt-very-secret-0123456789abcdef\n".to_vec()),
            ("/etc/ringway/two-lines", b"sk-1\nsk-2\n".to_vec()),
        ];
        Self {
            variables: HashMap::from([
                ("GPU_A_KEY", "sk-very-secret-a"),
                ("OPENAI_API_KEY", "sk-very-secret-b"),
                ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
                ("AWS_SECRET_ACCESS_KEY", "sk-very-secret-c"),
                ("AWS_SESSION_TOKEN", "sk-very-secret-d"),
                ("REDIS_PASSWORD", "sk-very-secret-e"),
                ("WITH_BREAK", "sk-very-secret\r\nX: y"),
                ("EMPTY", ""),
                ("RINGWAY_ADMIN_TOKEN", "rt-very-secret-0123456789abcdef"),
                ("WEAK", "changeme"),
                ("RINGWAY_IDS_SECRET", "rt-very-secret-9876543210fedcba"),
                ("RINGWAY_IDS_SECRET_BEFORE", "rt-older-secret-0123456789abcdef"),
                ("EGRESS_CREDENTIAL", "ringway:very-secret-c"),
                ("SHORT", "rt-very-secret-012345"),
                ("ALIKE", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
            ]),
            files: files.into_iter().map(|(path, bytes)| (path.into(), bytes)).collect(),
            machine: Machine::plain(8),
            roots: vec![made.cert.der().clone()],
        }
    }
}

impl Environment for Fake {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).map(|&value| value.to_owned())
    }
    fn file(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let found = self.files.get(path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        assert!(found.len() <= bytes_max);
        Ok(found.clone())
    }
    fn machine(&self) -> Machine {
        self.machine.clone()
    }
    fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.roots.clone()
    }
    fn unix_seconds(&self) -> u64 {
        1_700_000_000
    }
}

const BASE: &str = "[backend.a]\nurl = \"http://10.0.0.1:8000\"\n[model.m]\nbackends = [\"a\"]\n";
const DIGEST: &str = "55f271aba1499e9bc826cc4472f58b749dc89750216a7f9008d2c9ce8cc24034";

fn with(environment: &Fake, text: &str) -> Result<Compiled, Problems> {
    compile(&read(Path::new("/etc/ringway/f.toml"), text)?, environment)
}

/// Compiles `BASE` between what comes before its tables and what comes after them.
fn based(before: &str, after: &str) -> Result<Compiled, Problems> {
    with(&Fake::new(), &format!("{before}\n{BASE}{after}"))
}

#[test]
fn an_open_gateway_is_on_loopback_or_on_purpose() {
    assert!(!based("", "").unwrap().plan.keys_required);
    assert!(based("listen = \"[::1]:8080\"", "").is_ok());
    let open = based("listen = \"0.0.0.0:8080\"\nopen = true", "").unwrap();
    assert!(open.notes.iter().any(|note| note.starts_with("open gateway")));
    let closed = based("listen = \"0.0.0.0:8080\"", &format!("[key.k]\nsha256 = \"{DIGEST}\"")).unwrap();
    assert!(closed.plan.keys_required);
}

#[test]
fn an_admin_listener_beyond_loopback_has_a_token() {
    let admin = |lines: &str| based("", &format!("[admin]\n{lines}"));
    assert_eq!(admin("listen = \"[::1]:9090\"").unwrap().settings.admin_token, None);
    let open = admin("listen = \"0.0.0.0:9090\"").err().unwrap().to_string();
    assert!(open.contains(
        "f.toml:7: admin.listen: other machines can reach 0.0.0.0:9090 and there is no admin.token"
    ));
    let hex = |text: &str| {
        credential::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let digest = format!("{{ sha256 = \"{}\" }}", hex("rt-very-secret-0123456789abcdef"));
    for token in ["{ env = \"RINGWAY_ADMIN_TOKEN\" }", "{ file = \"token\" }", &digest] {
        let closed = admin(&format!("listen = \"0.0.0.0:9090\"\ntoken = {token}")).unwrap();
        let found = closed.settings.admin_token.unwrap();
        assert!(found.accepts(b"rt-very-secret-0123456789abcdef"), "{token}");
        assert!(closed.notes.iter().any(|note| note.contains("plain HTTP")), "{:?}", closed.notes);
        assert!(!format!("{:?}", closed.settings).contains("very-secret"));
    }
}

#[test]
fn backends_of_every_form_become_rows() {
    let after = r#"
[backend.b]
url = "https://api.example.com/openai/v1"
kind = "anthropic"
api_key = { env = "GPU_A_KEY" }
tls_verify = false
[backend.c]
url = "unix:/run/c.sock"
kind = "vllm"
api_key = { file = "secret" }
in_flight_max = 7
kv_tokens = 9
[backend.d]
url = "https://[::1]:8443/x/v1"
kind = "sglang"
stream_options = false
serves = ["chat"]
"#;
    let plan = based("", after).unwrap().plan;
    let [a, b, c, d] = &plan.backends[..] else { panic!("four rows") };
    assert_eq!(a.target, Target::Tcp { host: "10.0.0.1".into(), port: 8000 });
    assert!(a.tls.is_none() && a.credential_lines.is_empty() && a.in_flight_max == u32::MAX);
    assert_eq!(&*b.credential_lines, b"x-api-key: sk-very-secret-a\r\n");
    assert_eq!((&*b.authority, &b.base), (&b"api.example.com"[..], &Base::of_server("/openai/v1")));
    assert!(b.tls.as_ref().is_some_and(|tls| !tls.verified));
    assert_eq!(c.target, Target::Unix("/run/c.sock".into()));
    assert_eq!(&*c.credential_lines, b"authorization: Bearer sk-from-file\r\n");
    assert_eq!((c.in_flight_max, c.kv_tokens, c.health.path.as_deref()), (7, 9, Some("/health")));
    assert_eq!(&*d.authority, b"[::1]:8443");
    assert!(d.tls.as_ref().is_some_and(|tls| tls.verified && tls.config.alpn_protocols == [b"http/1.1"]));
    assert!(!d.provider.takes_stream_options);
    assert!(d.health.path.as_deref().is_some_and(|path| path.starts_with("/x/h")), "{:?}", d.health.path);
}

#[test]
fn an_api_base_is_asked_for_its_health_beside_its_version() {
    let row = |lines: &str| based("", &format!("[backend.b]\n{lines}")).unwrap();
    for (base, path) in [
        ("https://h/v1", "/health"),
        ("https://h/api/paas/v4/", "/api/paas/health"),
        ("https://h/a?x=1", "/a/health?x=1"),
        ("https://h", "/health"),
    ] {
        let found = row(&format!("api_base = \"{base}\"\nkind = \"vllm\""));
        assert_eq!(found.plan.backends[1].health.path.as_deref(), Some(path), "{base}");
        assert_eq!(found.notes.len(), 1, "{:?}", found.notes);
    }
    let found = row("url = \"https://h/v1beta/openai\"");
    assert!(found.notes.iter().any(|note| note.contains("/v1beta/openai/v1/...")), "{:?}", found.notes);
    let found = row(
        "api_base = \"https://h/d?v=1\"\napi_key = { env = \"GPU_A_KEY\" }\napi_key_header = \"Api-Key\"",
    );
    assert_eq!(&*found.plan.backends[1].credential_lines, b"api-key: sk-very-secret-a\r\n");
    assert_eq!(found.plan.backends[1].base, Base::of_api("/d", "v=1"));
}

#[test]
fn a_pattern_takes_the_names_that_no_model_has_and_the_closest_one_wins() {
    let text = r#"
[backend.b]
kind = "openrouter"
[model."openai/*"]
backends = ["b"]
[model."openai/gpt-*"]
backends = [{ name = "b", model = "gpt/*:free" }]
[model."openai/gpt-4o"]
backends = ["b"]
[model."one/*"]
backends = [{ name = "b", model = "fixed" }]
[model."*"]
backends = ["b"]
"#;
    let plan = based("", text).unwrap().plan;
    let found = |name: &str| &*plan.model(plan.find_model(name).unwrap()).name;
    for (name, model) in [
        ("openai/gpt-4o", "openai/gpt-4o"),
        ("openai/gpt-5", "openai/gpt-*"),
        ("openai/o3", "openai/*"),
        ("openai/", "*"),
        ("one/x", "one/*"),
        ("anything", "*"),
    ] {
        assert_eq!(found(name), model, "{name}");
    }
    assert_eq!(plan.find_model(""), None);
    let member = |name: &str| &plan.model_named(name).unwrap().pool[0];
    let template =
        |name: &str| member(name).template.as_ref().map(|template| template.name("x").into_owned());
    assert_eq!(template("openai/*").as_deref(), Some("x"));
    assert_eq!(template("openai/gpt-*").as_deref(), Some("gpt/x:free"));
    assert_eq!((template("one/*"), template("openai/gpt-4o")), (None, None));
    assert_eq!(member("one/*").model_json.as_deref(), Some(&b"\"fixed\""[..]));
    let state =
        |name: u64| plan.failure_state_of(member("openai/*").deployment, name, false).deployment as *const _;
    assert_ne!(state(1), state(2), "names fail on their own");
    assert_eq!(state(1), state(1));
}

#[test]
fn a_kind_that_knows_where_it_is_needs_no_url() {
    let plan = |lines: &str| based("", &format!("[backend.b]\n{lines}")).unwrap().plan;
    let openai = &plan("kind = \"openai\"\napi_key = { env = \"GPU_A_KEY\" }").backends[1];
    assert_eq!(openai.base, Base::of_api("/v1", ""));
    assert_eq!((&*openai.authority, openai.tls.is_some()), (&b"api.openai.com"[..], true));
    let ollama = &plan("kind = \"ollama\"").backends[1];
    assert_eq!((&*ollama.authority, ollama.tls.is_some()), (&b"127.0.0.1:11434"[..], false));
    assert_eq!(ollama.health.path.as_deref(), Some("/api/version"));
    let azure = &plan("kind = \"azure\"\nurl = \"https://n.openai.azure.com\"").backends[1];
    assert_eq!(azure.base, Base::of_api("/openai/v1", ""));
    let own = &plan("kind = \"openai\"\nurl = \"http://mock:1/v1\"").backends[1];
    assert_eq!(own.base, Base::of_server("/v1"));
}

#[test]
fn the_backend_hears_its_own_name_for_the_model() {
    let after = r#"
[backend.b]
url = "http://b"
weight = 3
[model.n]
backends = ["a", { name = "b", model = 'my "m"' }]
aliases = ["fast"]
[model.o]
backends = [{ name = "b", weight = 5 }]
"#;
    let plan = based("", after).unwrap().plan;
    let json = |model: usize, member: usize| plan.models[model].pool[member].model_json.as_deref();
    assert_eq!(json(0, 0), None, "without aliases the client's bytes are right");
    assert_eq!(json(1, 0), Some(&b"\"n\""[..]), "an alias is ours only");
    assert_eq!(json(1, 1), Some(&br#""my \"m\"""#[..]));
    assert_eq!(plan.models[1].pool.iter().map(|member| member.weight).collect::<Vec<_>>(), [1, 3]);
    assert_eq!((plan.models[2].pool[0].backend, plan.models[2].pool[0].weight), (BackendId::new(1), 5));
    assert_eq!((plan.names["fast"], plan.names["n"]), (plan.models[1].id, plan.models[1].id));
}

/// A deployment is a backend with its own name for the model, by however many public names it is reached.
#[test]
fn members_that_are_the_same_deployment_share_a_row() {
    let after = r#"
[backend.b]
url = "http://b"
limit_scope = "backend"
[model.n]
backends = ["a", { name = "b", model = "x" }]
[model.o]
backends = [{ name = "a", model = "n" }, { name = "b", model = "y" }]
[model.x]
backends = ["b"]
"#;
    let plan = based("", after).unwrap().plan;
    let rows: Vec<_> = plan.deployments.iter().map(|row| (row.backend.index(), &*row.model)).collect();
    assert_eq!(rows, [(0, "m"), (0, "n"), (1, "x"), (1, "y")]);
    let pools = plan.models.iter().map(|model| model.pool.iter().map(|member| member.deployment.index()));
    assert_eq!(
        pools.map(Iterator::collect::<Vec<_>>).collect::<Vec<_>>(),
        [vec![0], vec![1, 2], vec![1, 3], vec![2]]
    );
    assert_eq!(
        plan.backends.iter().map(|row| row.limit_scope).collect::<Vec<_>>(),
        [LimitScope::Model, LimitScope::Backend]
    );
}

#[test]
fn a_model_that_stands_in_for_others_is_called_by_its_own_name() {
    let after = "[model.n]\nbackends = [\"a\"]\naliases = [\"fast\"]\n[model.o]\nbackends = [\"a\"]\nfallbacks = [\"fast\", \"m\"]";
    let plan = based("", after).unwrap().plan;
    let [m, n, o] = &plan.models[..] else { panic!("three rows") };
    assert_eq!(*o.fallbacks, [n.id, m.id]);
    assert_eq!(m.pool[0].model_json.as_deref(), Some(&b"\"m\""[..]), "the client's bytes name another model");
    assert_eq!(o.pool[0].model_json, None);
}

#[test]
fn a_model_has_its_own_deadlines() {
    let after = "[model.n]\nbackends = [\"a\"]\ntimeouts = { first_token = \"5s\" }";
    let plan = based("", after).unwrap().plan;
    assert_eq!(plan.models[0].timeouts, plan.timeouts);
    assert_eq!(plan.models[1].timeouts.first_token, Nanos(5_000_000_000));
    assert_eq!(plan.models[1].timeouts.total, plan.timeouts.total);
}

#[test]
fn a_response_has_ten_minutes_unless_something_shorter_is_written() {
    const MINUTE: u64 = 60_000_000_000;
    let after = "[timeouts]\ntotal = \"8m\"\nfirst_byte = \"10s\"\n[model.n]\nbackends = [\"a\"]\n\
                 timeouts = { total = \"5m\", first_byte = \"0s\" }\n\
                 [model.o]\nbackends = [\"a\"]\ntimeouts = { total = \"20m\", response = \"1m\" }\n\
                 [model.p]\nbackends = [\"a\"]\ntimeouts = { total = \"20m\" }";
    let models = based("", after).unwrap().plan.models;
    let own = |row: usize| (models[row].timeouts.response.0 / MINUTE, models[row].timeouts.first_byte);
    let ten = Nanos(10_000_000_000);
    assert_eq!([own(0), own(1), own(2), own(3)], [(8, ten), (5, Nanos::NEVER), (1, ten), (10, ten)]);
    assert_eq!(based("", "").unwrap().plan.timeouts.response.0 / MINUTE, 10);
    assert_eq!(based("", "").unwrap().plan.timeouts.first_byte, Nanos::NEVER);
}

#[test]
fn a_key_may_use_what_its_patterns_fit() {
    let after = format!(
        "[model.n]\nbackends = [\"a\"]\naliases = [\"fast\"]\n[key.k]\nsha256 = \"{DIGEST}\"\nmodels = [\"fa*\"]\n\
         requests_per_minute = 60\ntokens_per_minute = 6000\ntokens_burst = 1000"
    );
    let plan = based("", &after).unwrap().plan;
    let key = &plan.keys[0];
    assert_eq!(&*key.grant.models, [false, true]);
    assert_eq!(key.grant.limits.requests.map(|rate| (rate.per_minute, rate.burst)), Some((60, 60)));
    assert_eq!(key.grant.limits.tokens.map(|rate| (rate.per_minute, rate.burst)), Some((6000, 1000)));
    assert_eq!(key.grant.limits.in_flight_max, u32::MAX);
    assert_eq!(plan.key_table.find(&key.credential.digest), Some(key.id));
}

#[test]
fn a_key_may_do_what_its_team_may_too() {
    let after = format!(
        "[model.n]\nbackends = [\"a\"]\n[team.t]\nmodels = [\"n\"]\napis = [\"chat\", \"rerank\"]\nin_flight_max = 7\n\
         [key.k]\nsha256 = \"{DIGEST}\"\nteam = \"t\"\napis = [\"chat\", \"messages\"]\ntags = [\"ci\"]\n\
         expires = \"1970-01-01T00:00:01.5+00:00\""
    );
    let Compiled { plan, notes, .. } = based("", &after).unwrap();
    let key = &plan.keys[0];
    assert_eq!(&*key.grant.models, [false, true]);
    assert_eq!(key.grant.apis.iter().collect::<Vec<_>>(), [Api::Chat]);
    assert_eq!(key.credential.expires.as_ref().map(|expires| expires.unix_ms), Some(1_500));
    assert_eq!(plan.teams.row(key.team.unwrap()).limits.in_flight_max, 7);
    assert!(notes.iter().any(|note| note.contains("key.k: expired at 1970-01-01")), "{notes:?}");
}

#[test]
fn a_price_is_found_by_name_then_by_the_longest_pattern_and_differs_by_backend() {
    let after = format!(
        "[backend.b]\nurl = \"http://b\"\n[model.n]\nbackends = [\"a\", \"b\"]\naliases = [\"gpt-4o\"]\n\
         [price.\"*\"]\ninput_per_million = 1.0\noutput_per_million = 2.0\n\
         [price.\"gpt-*\"]\ninput_per_million = 9.0\noutput_per_million = 9.0\n\
         [price.n]\ninput_per_million = 2.5\noutput_per_million = 10.0\ncached_per_million = 1.25\n\
         [price.n.backend.b]\noutput_per_million = 0.5\n\
         [key.k]\nsha256 = \"{DIGEST}\"\nbudgets = [{{ tokens = 5, per = \"day\" }}]\nteam = \"t\"\n\
         [team.t]\nbudgets = [{{ money = 50.0, per = \"month\", zone = \"Europe/Berlin\" }}, {{ tokens = 7, per = \"hour\", rolling = true }}]"
    );
    let plan = based("", &after).unwrap().plan;
    let price = |model: usize, member: usize| {
        let price = plan.models[model].pool[member].price.unwrap();
        [price.input, price.cached, price.cache_write, price.output].map(|price| price / 1_000_000)
    };
    assert_eq!(price(0, 0), [1_000, 1_000, 1_000, 2_000]);
    assert_eq!(price(1, 0), [2_500, 1_250, 2_500, 10_000]);
    assert_eq!(price(1, 1), [2_500, 1_250, 2_500, 500]);
    assert_eq!(plan.models[1].price.map(|price| price.output), Some(10_000_000_000));
    let budgets = plan.keys[0].grant.budgets.iter().map(|id| plan.budgets.row(*id).budget.to_string());
    let expected = ["5 tokens per day (UTC)", "7 tokens per rolling hour", "50.00 per month (Europe/Berlin)"];
    assert_eq!(budgets.collect::<Vec<_>>(), expected);
}

#[test]
fn shards_run_where_they_are_told() {
    let cores = |machine: &Machine, shards: &str| {
        let fake = Fake { machine: machine.clone(), ..Fake::new() };
        let plan = with(&fake, &format!("{BASE}[shards]\n{shards}"))
            .map_err(|problems| problems.to_string())
            .unwrap()
            .plan;
        plan.shards.iter().map(|shard| shard.core).collect::<Vec<_>>()
    };
    let pairs = (0..4).map(|number| Core { number, physical: number % 2 }).collect();
    let threads = Machine { cores: pairs, quota: None };
    assert_eq!(cores(&threads, ""), [Some(0), Some(1)], "one per physical core");
    assert_eq!(cores(&threads, "cores = [3, 1]"), [Some(3), Some(1)]);
    assert_eq!(cores(&threads, "cores = \"0-3\"\ncount = 1"), [Some(0)]);
    assert_eq!(cores(&threads, "pin = false"), [None, None]);
    let quota = Machine { quota: Some(2), ..Machine::plain(8) };
    assert_eq!(cores(&quota, ""), [None, None], "neighbours would pin to the same cores");
    assert_eq!(cores(&quota, "cores = \"0-2\"").len(), 3, "what is written is done");
}

#[test]
fn a_core_differs_only_where_it_says_so() {
    let plan = based("", "[shards]\nidle_max = 5\n[shards.core.3]\nring_entries = 64").unwrap().plan;
    let (own, other) = (&plan.shards[3], &plan.shards[2]);
    assert_eq!((own.ring_entries, own.idle_max), (64, 5));
    assert_eq!((other.ring_entries, other.idle_max), (4096, 5));
}

#[test]
fn tls_is_on_every_listener_that_does_not_decline() {
    let before = "listen = [\"127.0.0.1:1\", { address = \"127.0.0.1:2\", tls = false }]";
    let plan = based(before, "[tls]\ncert_file = \"tls/cert.pem\"\nkey_file = \"tls/key.pem\"").unwrap().plan;
    assert!(plan.listeners[0].tls.is_some() && plan.listeners[1].tls.is_none());
}
