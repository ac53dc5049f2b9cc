//! Two gateways that share limits over a real Redis: what passes of one limit, whatever becomes of Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use support::gateway::{Config, Gateway, K1};
use support::origin::Origin;
use support::redis::Redis;
use support::strict::Message;
use support::tls::{Authority, Tunnel};
use support::{chat, eventually, nonce};

/// What each request costs: its backend says so.
const TOKENS: u64 = 100;
/// What each reserves: about its prompt and its cap. Less than it costs would be more than a gateway has taken.
const BODY: &str = r#"{"model":"m","max_tokens":90,"messages":[{"role":"user","content":"how are you today, and what is new?"}]}"#;
/// Long enough for every lease to move, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

fn origin() -> Origin {
    Origin::scripted(|talk| {
        let usage = format!(r#"{{"prompt_tokens":20,"completion_tokens":80,"total_tokens":{TOKENS}}}"#);
        let body = format!(
            r#"{{"choices":[{{"index":0,"message":{{"role":"assistant","content":"x"}},"finish_reason":"stop"}}],"usage":{usage}}}"#
        );
        talk.answer("200 OK", "Content-Type: application/json\r\n", &body)
    })
}

fn gateway(origin: &Origin, redis: &Redis, limits: &str, more: &str) -> Gateway {
    let shared = format!("[shared]\nurl = \"redis://127.0.0.1:{}\"\ngateways = 2\n{more}", redis.port);
    Gateway::start(
        &Config::new()
            .backend("b1", origin.port, "health = { enabled = false }")
            .model("m", &["b1"], "")
            .tables("[price.m]\ninput_per_million = 10.0\noutput_per_million = 10.0")
            .tables(&shared)
            .key("one", K1, limits),
    )
}

/// Two gateways that know of each other, for so long that an absent one would be known as such.
fn pair(origin: &Origin, redis: &Redis, limits: &str, more: &str) -> [Gateway; 2] {
    let pair = [(); 2].map(|()| gateway(origin, redis, limits, more));
    let is_ready = |gateway: &Gateway| gateway.metric("ringway_shared_gateways", "") == 2.0;
    assert!(eventually(SOON, || pair.iter().all(is_ready)), "they do not meet");
    pair
}

fn ask(gateway: &Gateway) -> Message {
    let mut client = gateway.connect();
    client.send(&chat(K1, &nonce(), BODY));
    client.answer().expect("a response")
}

/// Asks on all gateways at once, three clients each, until told to stop; how many passed in all is counted while it goes on.
fn load<'s>(
    scope: &'s std::thread::Scope<'s, '_>,
    gateways: &'s [Gateway],
    passed: &Arc<AtomicU64>,
    stop: &Arc<AtomicBool>,
) {
    for gateway in gateways.iter().flat_map(|gateway| [gateway; 3]) {
        let (passed, stop) = (Arc::clone(passed), Arc::clone(stop));
        scope.spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                match ask(gateway).status() {
                    200 => _ = passed.fetch_add(1, Ordering::SeqCst),
                    429 => std::thread::sleep(Duration::from_millis(10)),
                    other => panic!("{other}"),
                }
            }
        });
    }
}

/// Loads these gateways while `act` runs, then until `enough` have passed or for [`SOON`], and a moment more; how many passed.
fn passed(gateways: &[Gateway], enough: u64, act: impl FnOnce(&AtomicU64)) -> u64 {
    let (count, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    std::thread::scope(|scope| {
        load(scope, gateways, &count, &stop);
        act(&count);
        eventually(SOON, || count.load(Ordering::SeqCst) >= enough);
        std::thread::sleep(Duration::from_millis(700));
        stop.store(true, Ordering::SeqCst);
    });
    count.load(Ordering::SeqCst)
}

/// The limits that hold 40 of those requests: requests, tokens, budgets of tokens (calendar and rolling) and of money.
const FORTY: [&str; 5] = [
    "requests_per_minute = 1\nrequests_burst = 40",
    "tokens_per_minute = 1\ntokens_burst = 4400",
    "budgets = [{ tokens = 4400, per = \"month\" }]",
    "budgets = [{ tokens = 4400, per = \"day\", rolling = true }]",
    "budgets = [{ money = 0.044, per = \"month\" }]",
];

#[test]
fn two_gateways_pass_together_what_one_limit_has() {
    let Some(redis) = Redis::start() else { return };
    for (index, limits) in FORTY.iter().enumerate() {
        let (origin, most) = (origin(), if index == 0 { 40 } else { 44 });
        let prefix = format!("prefix = \"both-{index}\"");
        let pair = pair(&origin, &redis, limits, &prefix);
        let passed = passed(&pair, most - 2, |_| {});
        // Of the last requests a part may be at each gateway; a request reserves a little more than it costs.
        assert!((most - 6..=most).contains(&passed), "{limits}: {passed} of {most}");
    }
}

#[test]
fn one_gateway_with_all_the_traffic_is_not_blocked_falsely() {
    let Some(redis) = Redis::start() else { return };
    for (index, limits) in FORTY.iter().enumerate() {
        let (origin, most) = (origin(), if index == 0 { 40 } else { 44 });
        let prefix = format!("prefix = \"one-{index}\"");
        let pair = pair(&origin, &redis, limits, &prefix);
        let passed = passed(&pair[..1], most - 2, |_| {});
        assert!((most - 2..=most).contains(&passed), "{limits}: {passed} of {most}");
        assert!(pair[0].metric("ringway_shared_received_total", "") > 0.0);
        assert!(pair[1].metric("ringway_shared_given_total", "") > 0.0);
        if limits.contains("budgets") {
            // What one has used up is used up at the other, too.
            let used_up = || ask(&pair[1]).json()["error"]["code"] == "insufficient_quota";
            assert!(eventually(SOON, used_up), "{limits}: {:?}", ask(&pair[1]));
        }
    }
}

#[test]
fn a_gateway_alone_has_the_share_of_one_that_is_not_there() {
    let Some(redis) = Redis::start() else { return };
    let origin = origin();
    let gateways = [gateway(&origin, &redis, FORTY[2], "")];
    let passed = passed(&gateways, 42, |_| {});
    assert!((42..=44).contains(&passed), "{passed} of 44");
}

/// Never unlimited while data are lost, Redis stands still, or is gone in the middle; and nothing is lost for good.
#[test]
fn whatever_becomes_of_redis_a_budget_holds_and_is_reconciled() {
    let Some(mut redis) = Redis::start() else { return };
    for (index, limits) in FORTY[2..].iter().enumerate() {
        let limits = limits.replace("4400", "44000").replace("0.044", "0.44");
        let origin = origin();
        let pair = pair(&origin, &redis, &limits, &format!("prefix = \"gone-{index}\""));
        let passed = passed(&pair, 436, |passed| {
            let wait = |count: u64| assert!(eventually(SOON, || passed.load(Ordering::SeqCst) >= count));
            wait(50);
            redis.command("FLUSHALL");
            wait(100);
            redis.signal("STOP");
            let before = passed.load(Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(1_500));
            assert!(passed.load(Ordering::SeqCst) > before, "requests wait for Redis");
            redis.signal("CONT");
            redis.command("SCRIPT FLUSH");
            redis.kill();
            std::thread::sleep(Duration::from_millis(500));
            redis.restart();
        });
        assert!((430..=440).contains(&passed), "{limits}: {passed} of 440");
        let is_up = |gateway: &Gateway| gateway.metric("ringway_shared_up", "") == 1.0;
        assert!(eventually(SOON, || pair.iter().all(is_up)));
        assert!(pair[0].metric("ringway_shared_failures_total", "") > 0.0);
    }
}

#[test]
fn without_redis_each_gateway_has_its_share_and_no_more() {
    let Some(mut redis) = Redis::start() else { return };
    let origin = origin();
    let limits =
        "requests_per_minute = 1\nrequests_burst = 30\nbudgets = [{ tokens = 4400, per = \"month\" }]";
    let pair = pair(&origin, &redis, limits, "");
    redis.kill();
    let alone = |gateway: &Gateway| gateway.metric("ringway_shared_alone", "") == 1.0;
    assert!(eventually(SOON, || pair.iter().all(alone)));
    let counts = [0, 1].map(|at| passed(&pair[at..=at], 15, |_| {}));
    assert!(counts.iter().all(|count| (14..=15).contains(count)), "{counts:?}");
    let status = pair[0].ask_admin("/status").expect("a page").1;
    assert!(status.contains("\"shared\":{") && status.contains("\"up\":false"), "{status}");
}

#[test]
fn where_it_fails_closed_nothing_passes_without_redis_and_all_of_it_after() {
    let Some(mut redis) = Redis::start() else { return };
    let origin = origin();
    let limits = "requests_per_minute = 60000\nbudgets = [{ tokens = 4400, per = \"month\" }]";
    let pair = pair(&origin, &redis, limits, "when_gone = \"fail_closed\"");
    redis.kill();
    let alone = |gateway: &Gateway| gateway.metric("ringway_shared_alone", "") == 1.0;
    assert!(eventually(SOON, || pair.iter().all(alone)));
    let while_gone = passed_in(&pair, Duration::from_secs(1));
    assert_eq!(while_gone, 0);
    redis.restart();
    let passed = passed(&pair, 42, |_| {});
    assert!((38..=44).contains(&passed), "{passed} of 44");
}

#[test]
fn redis_is_reached_over_tls_with_a_user_and_a_password() {
    let Some(redis) = Redis::start() else { return };
    redis.command("ACL SETUSER ringway on >rw-secret-of-redis ~rw:* +@all");
    redis.command("ACL SETUSER default off");
    let authority = Authority::new();
    let tunnel = Tunnel::from_tls(redis.port, authority.certify("localhost").server());
    let shared = format!(
        "[shared]\nurl = \"rediss://localhost:{}\"\nusername = \"ringway\"\npassword = {{ env = \"REDIS_PASSWORD\" }}\n\
         gateways = 2\nprefix = \"rw\"",
        tunnel.port
    );
    let roots = std::env::temp_dir().join(format!("ringway-roots-{}", redis.port));
    std::fs::write(&roots, authority.pem()).expect("a file");
    let config = Config::simple(origin().port).tables(&shared);
    let config = config.variable("SSL_CERT_FILE", roots.to_str().expect("a plain path"));
    let right = Gateway::start(&config.clone().variable("REDIS_PASSWORD", "rw-secret-of-redis"));
    assert!(
        eventually(SOON, || right.metric("ringway_shared_up", "") == 1.0),
        "{}",
        right.ask_admin("/status").expect("a page").1
    );
    let wrong = Gateway::start(&config.variable("REDIS_PASSWORD", "wrong"));
    assert!(eventually(SOON, || wrong.said().contains("Redis, which limits are shared over, is away")));
    assert!(!wrong.said().contains("wrong"), "{}", wrong.said());
    std::fs::remove_file(&roots).expect("it is there");
}

#[test]
fn slots_in_flight_are_divided() {
    let Some(redis) = Redis::start() else { return };
    let gateway = gateway(&origin(), &redis, "in_flight_max = 9", "");
    let mut client = gateway.connect();
    client.send(
        format!("GET /v1/key HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {K1}\r\n\r\n").as_bytes(),
    );
    let key = client.answer().expect("a response").json();
    assert_eq!(key["limits"][0]["most"], 4, "{key}");
}

/// Loads these gateways for a time; how many passed.
fn passed_in(gateways: &[Gateway], time: Duration) -> u64 {
    passed(gateways, 0, |_| std::thread::sleep(time))
}
