//! Another configuration while the gateway serves: taken up whole or refused whole, and nothing that runs notices.
#![allow(clippy::print_stdout)] // how fast a revoked key was gone

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::version::TLS13;
use support::gateway::{Config, Gateway, K1, K2};
use support::origin::{Origin, completion, patient};
use support::sse::{Ending, judge};
use support::tls::{Authority, Tunnel, secured};
use support::{J, PATIENCE, ask, chat, eventually};

const ASK: &str = r#"{"model":"m","messages":[],"stream":true}"#;
const QUIET: &str = "health = { enabled = false }";

fn status(gateway: &Gateway) -> serde_json::Value {
    serde_json::from_str(&gateway.ask_admin("/status").expect("an answer").1).expect("JSON")
}

/// The plan in force has this number, soon.
fn reaches(gateway: &Gateway, generation: u64) {
    let shards = status(gateway)["shards"].as_array().map_or(0, Vec::len) as f64;
    let taken = || gateway.metric("ringway_shard_plan_generation", "") >= shards * generation as f64;
    let reached = eventually(PATIENCE, || status(gateway)["generation"] == generation && taken());
    assert!(reached, "plan {generation} is not in force: {}", status(gateway)["reload"]);
}

#[test]
fn f_27_a_hangup_brings_the_new_plan_and_what_runs_keeps_the_old_one() {
    let (origin, end) = patient();
    let other = Origin::start();
    let gateway = Gateway::start(&Config::simple(origin.port));
    let mut running = gateway.connect();
    running.send(&chat(K1, "running", ASK));
    running.read_until("first");

    // The model has gone with its backend, another has come; the keys stay.
    let config = Config::new().backend("b2", other.port, QUIET).model("new", &["b2"], "");
    gateway.rewrite(&config.key("one", K1, "").key("two", K2, ""));
    gateway.signal("HUP");
    reaches(&gateway, 2);
    assert_eq!(ask(&gateway, J, "gone").status(), 404);
    assert_eq!(ask(&gateway, r#"{"model":"new","messages":[]}"#, "new").text(), completion("new"));
    assert!(gateway.ask_admin("/metrics").expect("metrics").1.contains("ringway_plan_generation 2"));

    end.store(true, Ordering::SeqCst);
    let answer = running.answer().expect("the stream that ran, whole");
    assert_eq!(judge(&answer.text()), ("first last".to_owned(), Ending::Finished));
    running.send(&chat(K1, "after", J));
    assert_eq!(running.answer().expect("an answer").status(), 404, "the next request has the new plan");
    assert!(eventually(PATIENCE, || gateway.said().contains("plan 2 is in force")), "{}", gateway.said());
}

#[test]
fn f_27_a_key_that_is_gone_is_gone_at_once_also_for_what_runs() {
    let (origin, _end) = patient();
    let gateway = Gateway::start(&Config::simple(origin.port).shards("count = 2"));
    let mut revoked: Vec<_> = (0..4).map(|_| gateway.connect()).collect();
    for (index, client) in revoked.iter_mut().enumerate() {
        client.send(&chat(K2, &format!("two-{index}"), ASK));
        client.read_until("first");
    }
    let mut other = gateway.connect();
    other.send(&chat(K1, "one", ASK));
    other.read_until("first");

    // Two plans later, so that the streams run under one that is not the last before.
    let quiet = Config::new().backend("b1", origin.port, QUIET).model("m", &["b1"], "").key("one", K1, "");
    gateway.rewrite(&Config::simple(origin.port).shards("count = 2").top("debug_headers = true"));
    assert_eq!(gateway.reload().0, 200);
    gateway.rewrite(&quiet.shards("count = 2"));
    assert_eq!(gateway.reload().0, 200);
    let told = Instant::now();
    for mut client in revoked {
        let answer = client.answer().expect("an end");
        assert_eq!(judge(&answer.text()), ("first ".to_owned(), Ending::Failed("api_key_revoked".into())));
    }
    println!("streams of the revoked key ended after {:?}", told.elapsed());
    let mut late = gateway.connect();
    late.send(&chat(K2, "late", J));
    assert_eq!(late.answer().expect("an answer").status(), 401);
    assert!(
        other.partial().is_some() && other.end() == support::client::End::Open,
        "the other key's stream runs"
    );
    let mut client = gateway.connect();
    client.send(&chat(K1, "fine", J));
    assert_eq!(client.answer().expect("an answer").status(), 200);
}

#[test]
fn f_26_what_does_not_hold_changes_nothing_and_is_told() {
    let origin = Origin::start();
    let good = Config::simple(origin.port);
    let gateway = Gateway::start(&good);
    for (text, part) in [
        ("listen = ", "ringway.toml:1:"),
        ("[model.m]\nbackends = [\"nobody\"]", "there is no [backend.nobody]"),
        ("lisen = \"127.0.0.1:1\"", "lisen"),
        ("[backend.b]\nurl = \"http://b\"\napi_key = { file = \"not-there\" }", "cannot read"),
        ("\u{0}", "ringway.toml:1:"),
    ] {
        gateway.rewrite_text(text);
        let (status_code, said) = gateway.reload();
        assert_eq!(status_code, 422, "{text}: {said}");
        assert!(said.contains(part), "{text}: {said}");
        assert_eq!(status(&gateway)["generation"], 1);
        assert_eq!(ask(&gateway, J, "still").status(), 200);
    }
    let state = status(&gateway);
    assert_eq!((&state["reload"]["refused"], &state["reload"]["done"]), (&5.into(), &0.into()), "{state}");
    assert!(
        state["reload"]["last_error"].as_str().is_some_and(|error| error.contains("ringway.toml:1:")),
        "{state}"
    );
    assert!((gateway.metric("ringway_reload_refused", "") - 1.0).abs() < 0.1);
    let told = || gateway.said().contains("the plan in force stays");
    assert!(eventually(PATIENCE, told), "{}", gateway.said());

    // Half-written files, cut at every byte: taken or refused, never anything between.
    let whole = good.text(gateway.port, gateway.admin);
    let mut generation = 1;
    for end in 0..whole.len() {
        gateway.rewrite_text(&whole[..end]);
        let (code, said) = gateway.reload();
        generation += u64::from(code == 200);
        assert!(matches!(code, 200 | 422), "cut at {end}: {code} {said}");
    }
    gateway.rewrite(&good);
    assert_eq!(gateway.reload().0, 200);
    reaches(&gateway, generation + 1);
    let answers = eventually(PATIENCE, || ask(&gateway, J, "again").status() == 200);
    assert!(answers, "the whole file is in force again");
    assert!(status(&gateway)["reload"]["last_error"].is_null());
}

#[test]
fn what_needs_a_restart_is_refused_by_its_name() {
    let origin = Origin::start();
    let good = Config::simple(origin.port);
    let gateway = Gateway::start(&good);
    let elsewhere = good.text(support::gateway::free_port(), support::gateway::free_port());
    for (text, keys) in [
        (elsewhere, "listen, admin.listen cannot change"),
        (good.clone().shards("idle_max = 3").text(gateway.port, gateway.admin), "shards cannot change"),
        (
            good.clone().tables("[access_log]\npath = \"stdout\"").text(gateway.port, gateway.admin),
            "access_log cannot change",
        ),
    ] {
        gateway.rewrite_text(&text);
        let (code, said) = gateway.reload();
        assert!(code == 422 && said.contains(keys), "{keys}: {code} {said}");
    }
    assert_eq!(ask(&gateway, J, "still").status(), 200);
}

#[test]
fn limits_and_counts_go_on_across_plans() {
    let origin = Origin::start();
    let config = |more: &str| {
        Config::new()
            .shards("count = 2")
            .backend("b1", origin.port, QUIET)
            .model("m", &["b1"], "")
            .model(more, &["b1"], "")
            .key("one", K1, "requests_per_minute = 6")
            .key(more, K2, "")
    };
    // Names before and after the ones that stay, so that every row moves.
    let gateway = Gateway::start(&config("a"));
    for turn in 0..6 {
        assert_eq!(ask(&gateway, J, &format!("turn-{turn}")).status(), 200, "turn {turn}");
        gateway.rewrite(&config(if turn % 2 == 0 { "z" } else { "a" }));
        assert_eq!(gateway.reload().0, 200);
        reaches(&gateway, turn + 2);
    }
    assert_eq!(ask(&gateway, J, "one too many").status(), 429);
    let counted = eventually(PATIENCE, || {
        (gateway.metric("ringway_model_requests_total", "model=\"m\"") - 6.0).abs() < 0.1
    });
    assert!(counted, "{}", gateway.ask_admin("/metrics").expect("metrics").1);
    assert_eq!(status(&gateway)["models"].as_array().expect("models").len(), 2);
    assert!(gateway.metric("ringway_backend_reused_total", "") >= 3.0, "idle connections come along");
}

/// A connection outlives any number of plans, and keeps none of them in memory but the one it is served by.
#[test]
fn f_25_kept_connections_hold_no_old_plan() {
    let origin = Origin::start();
    let config = Config::simple(origin.port);
    let gateway = Gateway::start(&config);
    let mut kept = Vec::new();
    for turn in 0..5 {
        let mut client = gateway.connect();
        client.send(&chat(K1, "kept", J));
        assert_eq!(client.answer().expect("an answer").status(), 200);
        kept.push(client);
        gateway.rewrite(&config.clone().key(&format!("turn-{turn}"), &format!("{K2}-{turn}"), ""));
        assert_eq!(gateway.reload().0, 200);
    }
    let in_use = || gateway.metric("ringway_plans_in_use", "");
    assert!(eventually(PATIENCE, || in_use() < 1.5), "{} plans are held by idle connections", in_use());
    for client in &mut kept {
        client.send(&chat(K1, "again", J));
        assert_eq!(client.answer().expect("an answer on the kept connection").status(), 200);
    }
}

/// Reloads as fast as they go, under load, on every shard; in a campaign a thousand of them in a minute.
#[test]
fn f_25_reloads_under_load_fail_nothing() {
    let origin = Origin::start();
    let config = |turn: u64| {
        let more = format!("extra-{}", turn % 3);
        Config::simple(origin.port).shards("count = 2").model(&more, &["b1"], "").key(
            &more,
            &format!("{K2}-{more}"),
            "",
        )
    };
    let gateway = Gateway::start(&config(0));
    let over = AtomicBool::new(false);
    let served = AtomicU64::new(0);
    let mut flat = true;
    let reloads = std::thread::scope(|scope| {
        for worker in 0..4 {
            let (gateway, over, served) = (&gateway, &over, &served);
            scope.spawn(move || {
                let mut client = gateway.connect();
                let mut turn = 0;
                while !over.load(Ordering::SeqCst) {
                    let nonce = format!("w{worker}-{turn}");
                    client.send(&chat(K1, &nonce, J));
                    let answer = client.answer().unwrap_or_else(|error| panic!("{nonce}: {error}"));
                    assert_eq!((answer.status(), answer.text()), (200, completion(&nonce)));
                    client.send(&chat(K1, &nonce, ASK));
                    let answer = client.answer().unwrap_or_else(|error| panic!("{nonce}: {error}"));
                    assert_eq!(judge(&answer.text()).1, Ending::Finished, "{nonce}");
                    served.fetch_add(2, Ordering::SeqCst);
                    turn += 1;
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
        }
        let (seconds, least) = if support::is_campaign() { (60, 1_000) } else { (4, 100) };
        let until = Instant::now() + Duration::from_secs(seconds);
        let (mut reloads, mut before) = (0, 0);
        while Instant::now() < until || reloads < least {
            reloads += 1;
            if reloads == least / 4 {
                before = gateway.resident();
            }
            gateway.rewrite(&config(reloads));
            let (code, said) = gateway.reload();
            assert_eq!(code, 200, "reload {reloads}: {said}");
        }
        let after = gateway.resident();
        println!("{reloads} reloads in {seconds} s, from {before} to {after} bytes of memory");
        over.store(true, Ordering::SeqCst);
        flat = after < before + before / 4 + (8 << 20);
        reloads
    });
    assert!(flat, "memory grows with every reload");
    reaches(&gateway, reloads + 1);
    assert!(served.load(Ordering::SeqCst) > 50, "there was load");
    let failed = gateway.metric("ringway_faults_total", "");
    assert!(failed < 0.1, "{failed} failed");
    let settled = gateway.metric("ringway_model_requests_total", "model=\"m\"");
    assert!((settled - served.load(Ordering::SeqCst) as f64).abs() < 0.1, "{settled} counted");
}

#[test]
fn f_47_a_certificate_that_does_not_hold_leaves_the_old_one_in_service() {
    let (origin, authority) = (Origin::start(), Authority::new());
    let gateway = Gateway::start(&secured(Config::simple(origin.port), &authority.certify("localhost")));
    let (good, other) = (authority.certify("localhost"), authority.certify("localhost"));
    let works = || {
        let tunnel = Tunnel::into_tls(gateway.port, authority.client(&TLS13));
        let mut client = support::client::Client::connect(tunnel.port);
        client.send(&chat(K1, "tls", J));
        client.answer().expect("an answer").status() == 200
    };
    for (cert, key, part) in [
        (good.cert.clone(), other.key.clone(), "tls.key_file"),
        ("no certificate".to_owned(), good.key.clone(), "holds no certificate"),
        (good.cert[..good.cert.len() / 2].to_owned(), good.key.clone(), "tls.cert_file"),
    ] {
        let bad = support::tls::Certified { cert, key };
        gateway.rewrite(&secured(Config::simple(origin.port), &bad));
        let (code, said) = gateway.reload();
        assert!(code == 422 && said.contains(part), "{part}: {code} {said}");
        assert!(works(), "{part}");
    }
    // A handshake that fails is counted, and harms nobody.
    let stranger = Tunnel::into_tls(gateway.port, Authority::new().client(&TLS13));
    if let Ok(mut client) = support::client::Client::try_connect(stranger.port) {
        client.send(&chat(K1, "stranger", J));
        assert!(client.answer().is_err(), "a client that does not know the authority is not served");
    }
    assert!(eventually(PATIENCE, || gateway.metric("ringway_tls_failures_total", "") > 0.5));
    gateway.rewrite(&secured(Config::simple(origin.port), &good));
    assert_eq!(gateway.reload().0, 200);
    assert!(works());
}

#[test]
fn a_watched_file_is_taken_up_and_so_is_a_certificate_that_it_names() {
    let (origin, authority) = (Origin::start(), Authority::new());
    let next = Authority::new();
    let watched = || Config::simple(origin.port).tables("[reload]\nwatch = true");
    let gateway = Gateway::start(&secured(watched(), &authority.certify("localhost")));
    let greets = |authority: &Authority| {
        let tunnel = Tunnel::into_tls(gateway.port, authority.client(&TLS13));
        // A tunnel that cannot get through closes before it is asked.
        let Ok(mut client) = support::client::Client::try_connect(tunnel.port) else { return false };
        client.send(&chat(K1, "tls", J));
        client.answer_to(false, Duration::from_secs(2)).is_ok_and(|answer| answer.status() == 200)
    };
    assert!(greets(&authority) && !greets(&next));
    gateway.rewrite(&secured(watched(), &next.certify("localhost")));
    assert!(eventually(Duration::from_secs(20), || greets(&next)), "{}", gateway.said());
    assert!(eventually(PATIENCE, || !greets(&authority)), "the old certificate is gone");

    gateway.rewrite(&secured(watched().model("more", &["b1"], ""), &next.certify("localhost")));
    let found = eventually(Duration::from_secs(20), || {
        status(&gateway)["models"].as_array().is_some_and(|models| models.len() == 2)
    });
    assert!(found, "{}", gateway.said());
}
