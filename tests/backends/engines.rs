//! What engines report of themselves, read from their metrics pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use support::gateway::{Config, Gateway, K1, Wrapper};
use support::origin::{Next, Origin, Talk, completion};
use support::{PATIENCE, chat, eventually};

/// The page for so many running and waiting requests.
type PageOf = fn(u32, u32) -> String;

/// What an engine's metrics path does.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Mood {
    Busy,
    Idle,
    Broken,
    Foreign,
    Silent,
}

impl Mood {
    const ALL: [Self; 5] = [Self::Busy, Self::Idle, Self::Broken, Self::Foreign, Self::Silent];
}

/// An engine with a metrics page, which counts the chats that it got.
struct Engine {
    origin: Origin,
    chats: Arc<AtomicUsize>,
    pages: Arc<AtomicUsize>,
    mood: Arc<AtomicU8>,
}

impl Engine {
    /// `page`: the page for so many running and waiting requests.
    fn start(path: &'static str, mood: Mood, page: PageOf) -> Self {
        let (chats, pages) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let mood = Arc::new(AtomicU8::new(mood as u8));
        let (counted, read, state) = (chats.clone(), pages.clone(), mood.clone());
        let origin = Origin::scripted(move |talk| {
            if talk.request.target() == path {
                let next = answer(talk, Mood::ALL[usize::from(state.load(Ordering::SeqCst))], page);
                read.fetch_add(1, Ordering::SeqCst);
                return next;
            }
            counted.fetch_add(1, Ordering::SeqCst);
            talk.answer("200 OK", "", &completion("well"))
        });
        Self { origin, chats, pages, mood }
    }

    fn set(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::SeqCst);
    }

    /// Waits until the page was read twice more: what it said before has been noted by then.
    fn read_again(&self) {
        let before = self.pages.load(Ordering::SeqCst);
        let read = || self.pages.load(Ordering::SeqCst) >= before + 3;
        assert!(eventually(PATIENCE, read), "its metrics are read");
    }

    fn take_chats(&self) -> usize {
        self.chats.swap(0, Ordering::SeqCst)
    }
}

fn answer(talk: &mut Talk, mood: Mood, page: PageOf) -> Next {
    match mood {
        Mood::Busy => talk.answer("200 OK", "content-type: text/plain\r\n", &page(9, 30)),
        Mood::Idle => talk.answer("200 OK", "content-type: text/plain\r\n", &page(0, 0)),
        Mood::Broken => talk.answer("503 Service Unavailable", "", "no"),
        Mood::Foreign => talk.answer("200 OK", "", "<html>a page of something else</html>"),
        Mood::Silent => Next::Reset,
    }
}

fn vllm(running: u32, waiting: u32) -> String {
    format!(
        "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{{engine=\"0\"}} {running}.0\n\
         vllm:num_requests_waiting{{engine=\"0\"}} {waiting}.0\nvllm:kv_cache_usage_perc{{engine=\"0\"}} {}\n\
         vllm:cache_config_info{{block_size=\"16\",num_gpu_blocks=\"1000\"}} 1.0\n",
        if running > 0 { "0.5" } else { "0.0" }
    )
}

/// Before two engines of a kind; each a backend with these lines.
fn gateway(kind: &str, more: &str, engines: [&Engine; 2]) -> Gateway {
    let lines = format!("kind = \"{kind}\"\nhealth = {{ enabled = false }}\n{more}");
    let config = Config::new()
        .tables("[routing]\nscrape_interval = \"100ms\"")
        .backend("one", engines[0].origin.port, &lines)
        .backend("two", engines[1].origin.port, &lines)
        .model("m", &["one", "two"], "")
        .key("k", K1, "");
    Gateway::start(&config)
}

/// Sends conversations that share nothing.
fn converse(gateway: &Gateway, from: usize, count: usize) {
    for conversation in from..from + count {
        let text = format!("conversation {conversation} is about {conversation}. ").repeat(20);
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#);
        let mut client = gateway.connect();
        client.send(&chat(K1, "n", &body));
        assert_eq!(client.answer().expect("a response").status(), 200);
    }
}

#[test]
fn an_engine_that_others_keep_busy_is_left_alone_until_its_page_is_stale() {
    let busy = Engine::start("/metrics", Mood::Busy, vllm);
    let idle = Engine::start("/metrics", Mood::Idle, vllm);
    let gateway = gateway("vllm", "", [&busy, &idle]);
    busy.read_again();
    converse(&gateway, 0, 12);
    assert_eq!((busy.take_chats(), idle.take_chats()), (0, 12), "30 requests of others wait there");
    let foreign = gateway.metric("ringway_engine_foreign", "one");
    assert!((38.0..=39.0).contains(&foreign), "{foreign}");
    assert_eq!(gateway.metric("ringway_engine_kv_tokens", "one"), 16_000.0);

    for (round, mood) in [Mood::Broken, Mood::Foreign, Mood::Silent].into_iter().enumerate() {
        busy.set(mood);
        let stale = || gateway.metric("ringway_engine_foreign", "one") == 0.0;
        assert!(eventually(PATIENCE, stale), "a page that no longer comes has no series");
        converse(&gateway, 100 * (round + 1), 24);
        let (one, two) = (busy.take_chats(), idle.take_chats());
        assert!(one >= 4 && two >= 4, "neither idle nor full: {one} and {two}");
        busy.set(Mood::Busy);
        let again = || gateway.metric("ringway_engine_foreign", "one") > 30.0;
        assert!(eventually(PATIENCE, again), "its page comes again");
    }
    assert!(gateway.metric("ringway_engine_scrape_failures_total", "one") >= 3.0);
}

#[test]
fn the_status_shows_what_an_engine_said_and_why_it_says_nothing() {
    let (busy, broken) =
        (Engine::start("/metrics", Mood::Busy, vllm), Engine::start("/metrics", Mood::Broken, vllm));
    let gateway = gateway("vllm", "", [&busy, &broken]);
    busy.read_again();
    broken.read_again();
    let status = gateway.ask_admin("/status").expect("a page").1;
    let engine = |name: &str| {
        let from = status.find(&format!("\"name\":\"{name}\"")).expect("the backend");
        let rest = &status[from..];
        rest[rest.find("\"engine\":").expect("its metrics")..].split('}').next().unwrap_or("").to_owned()
    };
    let one = engine("one");
    for part in
        ["\"running\":9", "\"waiting\":30", "\"foreign\":39", "\"kv_usage\":0.5", "\"kv_tokens\":16000"]
    {
        assert!(one.contains(part), "{part} in {one}");
    }
    assert!(one.contains("\"stale\":false"), "{one}");
    let two = engine("two");
    assert!(two.contains("\"running\":null") && two.contains("\"stale\":true"), "{two}");
    assert!(two.contains("\"last_failure\":\"status 503\""), "{two}");
}

#[test]
fn each_kind_of_engine_is_read_at_its_path_and_by_its_names() {
    let sglang = |running, waiting| {
        format!(
            "sglang:num_running_reqs{{tp_rank=\"0\"}} {running}\nsglang:num_queue_reqs{{tp_rank=\"0\"}} {waiting}\n"
        )
    };
    let tensor = |running, waiting| {
        format!("trtllm_num_requests_running {running}\ntrtllm_num_requests_waiting {waiting}\n")
    };
    let triton = |running, waiting| {
        format!(
            "nv_trt_llm_request_metrics{{model=\"m\",request_type=\"scheduled\"}} {running}\n\
             nv_trt_llm_request_metrics{{model=\"m\",request_type=\"waiting\"}} {waiting}\n"
        )
    };
    let tgi = |running, waiting| format!("tgi_batch_current_size {running}\ntgi_queue_size {waiting}\n");
    let llama = |running, waiting| {
        format!("llamacpp:requests_processing {running}\nllamacpp:requests_deferred {waiting}\n")
    };
    let kinds: [(&str, &str, PageOf); 5] = [
        ("sglang", "/metrics", sglang),
        ("tensorrt_llm", "/prometheus/metrics", tensor),
        ("triton", "/metrics", triton),
        ("tgi", "/metrics", tgi),
        ("llama_cpp", "/metrics", llama),
    ];
    for (kind, path, page) in kinds {
        let busy = Engine::start(path, Mood::Busy, page);
        let idle = Engine::start(path, Mood::Idle, page);
        let gateway = gateway(kind, "", [&busy, &idle]);
        busy.read_again();
        converse(&gateway, 0, 6);
        assert_eq!((busy.take_chats(), idle.take_chats()), (0, 6), "{kind}");
    }
}

#[test]
fn metrics_may_lie_on_another_port_and_another_path() {
    let (busy, idle) = (Engine::start("/", Mood::Idle, vllm), Engine::start("/", Mood::Idle, vllm));
    let page = Engine::start("/own", Mood::Busy, vllm);
    let lines = "kind = \"triton\"\nhealth = { enabled = false }\n";
    let elsewhere = format!("{lines}metrics = {{ port = {}, path = \"/own\" }}", page.origin.port);
    let config = Config::new()
        .tables("[routing]\nscrape_interval = \"100ms\"")
        .backend("one", busy.origin.port, &elsewhere)
        .backend("two", idle.origin.port, &format!("{lines}metrics = {{ enabled = false }}"))
        .model("m", &["one", "two"], "")
        .key("k", K1, "");
    let gateway = Gateway::start(&config);
    page.read_again();
    converse(&gateway, 0, 6);
    assert_eq!((busy.take_chats(), idle.take_chats()), (0, 6));
    assert!(idle.origin.seen().iter().all(|seen| !seen.request.target().contains("metrics")));
}

#[test]
fn engines_that_are_no_choice_are_not_read_and_wrong_keys_are_refused() {
    let alone = Engine::start("/metrics", Mood::Idle, vllm);
    let config = Config::new()
        .tables("[routing]\nscrape_interval = \"50ms\"")
        .backend("one", alone.origin.port, "kind = \"vllm\"\nhealth = { enabled = false }")
        .model("m", &["one"], "")
        .key("k", K1, "");
    let gateway = Gateway::start(&config);
    converse(&gateway, 0, 5);
    assert_eq!(alone.pages.load(Ordering::SeqCst), 0, "a model with one backend has no choice to make");

    for (lines, words) in [
        ("metrics = { port = 8002 }", "has no metrics that say how busy it is"),
        ("kind = \"vllm\"\nmetrics = { path = \"metrics\" }", "expected a path like"),
        ("kind = \"vllm\"\nmetrics = { port = 0 }", "expected 1 to 65535"),
    ] {
        let config = Config::new().backend("one", 1, lines).model("m", &["one"], "").key("k", K1, "");
        let refused = Gateway::try_start(&config, Wrapper::Plain).err().expect("a refusal");
        assert!(refused.contains(words), "{refused}");
    }
    let config = Config::new()
        .tables("[routing]\nscrape_interval = \"1ms\"")
        .backend("one", 1, "")
        .model("m", &["one"], "")
        .key("k", K1, "");
    let refused = Gateway::try_start(&config, Wrapper::Plain).err().expect("a refusal");
    assert!(refused.contains("routing.scrape_interval"), "{refused}");
}
