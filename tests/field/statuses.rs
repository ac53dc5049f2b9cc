//! What the status of a backend means: who is asked next, who is blamed, and what the client sees.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::failures::{JSON, QUIET, body, messages, model_of};
use support::gateway::{Config, Gateway, K1};
use support::origin::{Origin, completion};
use support::{PATIENCE, ask, eventually};

const PAGE: &str = "<!DOCTYPE html><html><body><h1>Error</h1></body></html>";

/// Statuses that are about the backend.
const BACKENDS: [u16; 36] = [
    401, 402, 403, 404, 405, 407, 408, 409, 410, 423, 424, 425, 429, 499, 500, 501, 502, 503, 504, 505, 507,
    508, 511, 520, 521, 522, 523, 524, 525, 526, 527, 529, 530, 540, 598, 599,
];
/// Statuses that are about the request.
const CLIENTS: [u16; 9] = [400, 406, 411, 413, 415, 418, 422, 431, 451];

/// A backend that answers with the status that the model is named after.
fn ill(fields: &'static str, text: &'static str) -> Origin {
    Origin::scripted(move |talk| talk.answer(&format!("{} Whatever", model_of(talk)), fields, text))
}

/// Well, and says which model it was asked for.
fn well() -> Origin {
    Origin::scripted(|talk| talk.answer("200 OK", JSON, &completion(&model_of(talk))))
}

fn count(origin: &Origin, model: &str) -> usize {
    origin.seen().iter().filter(|seen| seen.request.json()["model"] == model).count()
}

fn base(ill: &Origin, well: &Origin) -> Config {
    let both = format!("serves = [\"chat\", \"messages\"]\n{QUIET}");
    Config::new()
        .backend("ill", ill.port, &both)
        .backend("well", well.port, &both)
        .model("spare", &["well"], "")
        .key("one", K1, "")
}

#[test]
fn what_is_about_one_backend_of_a_pool_is_answered_by_another() {
    for (fields, text) in [("Content-Type: text/html\r\n", PAGE), (JSON, "{\"error\":{\"message\":\"no\"}}")]
    {
        let (ill, well) = (ill(fields, text), well());
        let config = BACKENDS.iter().fold(base(&ill, &well), |config, status| {
            config.model(&status.to_string(), &["ill", "well"], "")
        });
        let gateway = Gateway::start(&config);
        for status in BACKENDS.map(|status| status.to_string()) {
            // Which of the two is asked first is chance.
            let asked = eventually(PATIENCE, || {
                let answer = ask(&gateway, &body(&status), &status);
                assert_eq!((answer.status(), answer.text()), (200, completion(&status)), "{status}");
                count(&ill, &status) > 0
            });
            assert!(asked, "{status} was never the first");
        }
    }
}

#[test]
fn what_is_about_the_backends_of_a_model_is_answered_by_its_fallback() {
    let (ill, well) = (ill("Content-Type: text/html\r\n", PAGE), well());
    let config = BACKENDS.iter().fold(base(&ill, &well), |config, status| {
        config.model(&status.to_string(), &["ill"], "fallbacks = [\"spare\"]")
    });
    let gateway = Gateway::start(&config);
    for status in BACKENDS.map(|status| status.to_string()) {
        let answer = ask(&gateway, &body(&status), &status);
        assert_eq!((answer.status(), answer.text()), (200, completion("spare")), "{status}");
        assert_eq!(count(&ill, &status), 1, "{status}");
    }
}

#[test]
fn what_is_about_the_request_is_the_answer_and_nobody_is_blamed() {
    let said = "{\"error\":{\"message\":\"bad request\",\"type\":\"x\",\"code\":\"y\"}}";
    let (ill, other) = (ill(JSON, said), ill(JSON, said));
    let config = CLIENTS.iter().fold(base(&ill, &other), |config, status| {
        config.model(&status.to_string(), &["ill", "well"], "fallbacks = [\"spare\"]")
    });
    let gateway = Gateway::start(&config);
    for status in CLIENTS {
        let model = status.to_string();
        for turn in 1..=7 {
            let answer = ask(&gateway, &body(&model), &model);
            assert_eq!((answer.status(), answer.text().as_str()), (status, said), "{answer:?}");
            assert_eq!(count(&ill, &model) + count(&other, &model), turn, "{status} was tried again");
        }
    }
    assert_eq!(gateway.metric("ringway_deployment_breaker", ""), 0.0);
    assert_eq!(gateway.metric("ringway_fallbacks_total", ""), 0.0);
}

#[test]
fn no_page_passes_as_an_error_of_the_api() {
    let bodies = [
        ("Content-Type: text/html; charset=utf-8\r\n", PAGE),
        ("Content-Type: application/json\r\n", PAGE),
        ("Content-Type: text/plain\r\n", "upstream connect error or disconnect/reset before headers"),
        ("", ""),
        ("Content-Type: application/json\r\n", "{\"error\":{\"message\":"),
        ("Content-Type: application/json\r\n", "\"Not Found\""),
    ];
    for (fields, text) in bodies {
        let (ill, well) = (ill(fields, text), well());
        let statuses = || BACKENDS.into_iter().chain(CLIENTS);
        let config = statuses()
            .fold(base(&ill, &well), |config, status| config.model(&status.to_string(), &["ill"], ""));
        let gateway = Gateway::start(&config);
        for status in statuses() {
            let expected = match status {
                401 | 403 | 407 | 499 => 502,
                503 | 529 => 503,
                504 | 522 | 524 | 598 | 599 => 504,
                500.. => 502,
                status => status,
            };
            let answer = ask(&gateway, &body(&status.to_string()), "page");
            assert_eq!(answer.status(), expected, "{status}: {answer:?}");
            assert_eq!(answer.one("content-type"), "application/json", "{status}");
            let error = &answer.json()["error"];
            let kind = error["type"].as_str().expect("a type");
            assert!(["invalid_request_error", "server_error"].contains(&kind), "{answer:?}");
            assert!(error["message"].is_string() && error["code"].is_string(), "{answer:?}");
            assert!(!answer.text().contains("<h1>") && !answer.text().contains("reset before headers"));

            let answer = messages(&gateway, &status.to_string());
            let expected = match expected {
                429 | 503 => 529,
                other => other,
            };
            assert_eq!(answer.status(), expected, "{status}: {answer:?}");
            assert_eq!(answer.json()["type"], "error", "{status}: {answer:?}");
            assert!(answer.json()["error"]["type"].is_string(), "{status}: {answer:?}");
        }
    }
}

/// The backend says it best, where there is nobody else to say it; whatever label its JSON has.
#[test]
fn json_of_a_backend_passes_as_it_is() {
    for (fields, text) in [
        (JSON, "{\"error\":{\"message\":\"The model does not exist\",\"code\":\"model_not_found\"}}"),
        ("Content-Type: application/problem+json\r\n", "{\"title\":\"no\",\"status\":1}"),
        ("Content-Type: text/plain\r\n", " \n[{\"error\":{\"message\":\"in a list\"}}]\n"),
        ("", "{\"detail\":\"Not Found\"}"),
    ] {
        let (ill, well) = (ill(fields, text), well());
        let statuses = [400, 402, 404, 408, 424, 500, 501, 507, 520, 524, 529, 599];
        let config = statuses
            .iter()
            .fold(base(&ill, &well), |config, status| config.model(&status.to_string(), &["ill"], ""));
        let gateway = Gateway::start(&config);
        for status in statuses {
            let answer = ask(&gateway, &body(&status.to_string()), "json");
            assert_eq!((answer.status(), answer.text().as_str()), (status, text), "{answer:?}");
        }
    }
}

#[test]
fn what_is_not_served_never_takes_a_backend_out_and_what_fails_does() {
    let (ill, well) = (ill("Content-Type: text/html\r\n", PAGE), well());
    let statuses =
        [(404, false), (405, false), (410, false), (501, false), (505, true), (520, true), (408, true)];
    let config = statuses.iter().fold(base(&ill, &well), |config, (status, _)| {
        config.model(&status.to_string(), &["ill"], "fallbacks = [\"spare\"]")
    });
    let gateway = Gateway::start(&config);
    for (status, opens) in statuses {
        let model = status.to_string();
        for _ in 0..5 {
            assert_eq!(ask(&gateway, &body(&model), &model).status(), 200, "{status}");
        }
        let breaker = gateway.metric("ringway_deployment_breaker", &format!("model=\"{model}\""));
        assert_eq!(breaker > 0.0, opens, "{status}");
        assert_eq!(count(&ill, &model), 5, "{status}");
    }
}

/// A member that fails for one request in six costs nobody an answer.
#[test]
fn the_first_failover_is_free_while_few_requests_need_one() {
    let turn = Arc::new(AtomicUsize::new(0));
    let ill = Origin::scripted(move |talk| match turn.fetch_add(1, Ordering::SeqCst) % 3 {
        0 => talk.answer("500 Internal Server Error", JSON, "{\"error\":{}}"),
        _ => talk.answer("200 OK", JSON, &completion("ill")),
    });
    let well = well();
    let config = base(&ill, &well).model("m", &["ill", "well"], "").shards("count = 1");
    let gateway = Gateway::start(&config);
    for turn in 0..900 {
        let answer = ask(&gateway, &body("m"), &format!("turn {turn}"));
        assert_eq!(answer.status(), 200, "turn {turn}: {answer:?}");
    }
    let failovers = gateway.metric("ringway_retries_failover_total", "");
    assert!(failovers > 100.0, "{failovers} are not more than the budget has for 900 requests");
}
