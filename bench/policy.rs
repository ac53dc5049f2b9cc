//! What does a decision cost? Nanoseconds per call of the functions that every exchange passes through.
//!
//! Shapes: a pool of 1, 4, 32 and 128 backends with uneven load and believed ratios; a prompt of 32,768 tokens that each backend has
//! another part of; a table of 10,000 keys; one bucket that always has room, alone and under four threads. Allocations are counted.
//! Budget: a decision (views, match and pick) among 32 backends in 2 us without an allocation.
//!
//! Content rules: one event of 250 bytes of a chat stream, and a read of 64 of them, under 200 words and under all detectors, after
//! warm-up; beside them the meter, which reads every event anyway. Budget: nothing allocated per event.

use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher, black_box};
use ringway::config::{Process, compile, read};
use ringway::dialect::Api;
use ringway::dialect::request;
use ringway::dialect::stream::Meter;
use ringway::dialect::texts::Place;
use ringway::plan::{Draw, Plan};
use ringway::policy::auth::credential::{Credentials, KeyTable, digest};
use ringway::policy::guard::detect::Detector;
use ringway::policy::guard::patterns::Find;
use ringway::policy::guard::rules::{Action, Guards, Labels, Rule};
use ringway::policy::guard::stream::Filter;
use ringway::policy::limits::bucket::{Bucket, Rate};
use ringway::policy::routing::balance::{View, pick};
use ringway::policy::routing::breaker::Breaker;
use ringway::policy::routing::choice;
use ringway::policy::routing::conversation::{Conversation, Source};
use ringway::policy::routing::prefix::{Chain, Keeper};
use ringway::units::Nanos;
use ringway::wire::records::RecordForm;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

fn pool(backends: u64, busy: bool) -> Vec<View> {
    (0..backends)
        .map(|index| View {
            weight: 1 + index as u32 % 3,
            in_flight: if busy { index * 7 % 13 } else { 0 },
            pending_tokens: if busy { index * 911 % 4_000 } else { 0 },
            kv_tokens: index * 5_000 % 200_000,
            kv_capacity: 300_000,
            ratio: 1.0 + index as f32 / 20.0,
            samples: 15,
            ..View::default()
        })
        .collect()
}

#[divan::bench(args = [1, 4, 32, 128])]
fn pick_among_busy(bencher: Bencher<'_, '_>, backends: u64) {
    let (pool, mut random) = (pool(backends, true), 0u64);
    bencher.bench_local(|| {
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        pick(black_box(&pool), black_box(1_000), random)
    });
}

/// The dearest case: all tie, so each backend draws its rank.
#[divan::bench(args = [1, 4, 32, 128])]
fn pick_among_idle(bencher: Bencher<'_, '_>, backends: u64) {
    let (mut pool, mut random) = (pool(backends, false), 0u64);
    pool.iter_mut().for_each(|view| (view.kv_tokens, view.ratio) = (0, 1.0));
    bencher.bench_local(|| {
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        pick(black_box(&pool), black_box(1_000), random)
    });
}

/// A plan whose only model has so many backends.
fn plan(backends: usize) -> Plan {
    let names: Vec<String> = (0..backends).map(|index| format!("b{index}")).collect();
    let rows: String =
        names.iter().map(|name| format!("[backend.{name}]\nurl = \"http://{name}\"\n")).collect();
    let text = format!("{rows}[model.m]\nbackends = {names:?}\n");
    let written = read(std::path::Path::new("/f.toml"), &text).expect("it can be read");
    compile(&written, &Process).unwrap_or_else(|bad| panic!("{bad}")).plan
}

/// A chat of so many tokens by estimate.
fn chat(tokens: usize) -> String {
    let words: String = (0..tokens * 4 / 8).map(|word| format!("{word:07} ")).collect();
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{words}"}}]}}"#)
}

fn conversation(plan: &Plan, body: &str, chain: Chain) -> Conversation {
    let peek = request::peek(Api::Chat, body.as_bytes()).expect("a sound body");
    let (rates, body) = (plan.estimate, body.as_bytes());
    let source = Source { peek: &peek, body, is_pattern: false, rates, session: Some(b"a session") };
    Conversation::read(chain, &source)
}

/// The whole choice, as a shard makes it: what each backend has of a prompt of 32,768 tokens, its load, its score.
#[divan::bench(args = [2, 8, 32, 64])]
fn decide(bencher: Bencher<'_, '_>, backends: usize) {
    let (plan, body) = (plan(backends), chat(32_768));
    let conversation = conversation(&plan, &body, Chain::default());
    let model = plan.models.iter().next().expect("a model");
    let shared = plan.models.cells(model.id).prefixes.get().expect("a table");
    let mut keeper = Keeper::default();
    for member in 0..backends {
        keeper.set_capacity(&shared.table, member, 100_000);
        let blocks = conversation.blocks();
        keeper.place(&shared.table, member, &blocks[..blocks.len() * (member + 1) / backends]);
    }
    let (mut views, now, mut random) = ([View::default(); 64], Nanos(1), 0u64);
    bencher.bench_local(|| {
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let views = &mut views[..backends];
        for (view, member) in views.iter_mut().zip(&model.pool) {
            *view = plan.view(member, true, now);
        }
        let draw = Draw { prompt_tokens: 32_768, random, turn: random };
        let request = plan.request(model, black_box(Some(&conversation)), |_| 0, views, draw);
        choice::pick(model.policy, views, &request)
    });
}

/// A request's text in blocks, with a chain that was used before.
#[divan::bench(args = [1_024, 32_768, 262_144])]
fn hash_a_prompt(bencher: Bencher<'_, '_>, tokens: usize) {
    let (plan, body) = (plan(2), chat(tokens));
    let peek = request::peek(Api::Chat, body.as_bytes()).expect("a sound body");
    let mut kept = Some(conversation(&plan, &body, Chain::default()).into_chain());
    bencher.counter(BytesCount::new(body.len())).bench_local(|| {
        let (rates, body) = (plan.estimate, black_box(body.as_bytes()));
        let source = Source { peek: &peek, body, is_pattern: false, rates, session: None };
        let read = Conversation::read(kept.take().expect("a chain"), &source);
        let blocks = read.blocks().len();
        kept = Some(read.into_chain());
        blocks
    });
}

#[divan::bench]
fn key_presented_digested_found(bencher: Bencher<'_, '_>) {
    let keys: Vec<_> = (0..10_000).map(|index| digest(format!("sk-{index:060}").as_bytes())).collect();
    let table = KeyTable::new(&keys);
    let line = format!("Bearer sk-{:060}", 4_711);
    bencher.bench_local(|| {
        let authorization = Some(black_box(line.as_bytes()));
        table.identify(&Credentials { authorization, ..Credentials::default() }).unwrap()
    });
}

#[divan::bench(threads = [1, 4])]
fn bucket_take_and_settle(bencher: Bencher<'_, '_>) {
    let (bucket, rate) =
        (Bucket::default(), Rate { per_minute: 1_000_000, burst: u64::MAX / 2, gateways: 1 });
    bencher.bench(|| {
        let room = bucket.take(&rate, black_box(900), Nanos(1)).unwrap();
        bucket.settle(&rate, 900, black_box(700), Nanos(1));
        bucket.settle(&rate, 700, 0, Nanos(1));
        room
    });
}

#[divan::bench]
fn breaker_closed(bencher: Bencher<'_, '_>) {
    let breaker = Breaker::default();
    bencher.bench_local(|| {
        let admission = breaker.admit(black_box(Nanos(1)));
        breaker.success(Nanos(1));
        admission
    });
}

/// Events of a chat stream, as an engine writes them.
fn chat_events(count: usize) -> Vec<u8> {
    let words = [
        "The", " quick", " brown", " fox", " jumps", " over", " 42", " lazy", " dogs", ",", " and",
        " sleeps", ".",
    ];
    let event = |index: usize| {
        format!(
            "data: {{\"id\":\"chatcmpl-7f3c2a91d0b54e6f\",\"object\":\"chat.completion.chunk\",\"created\":1790000000,\"model\":\"llama\",\
             \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{}\"}},\"logprobs\":null,\"finish_reason\":null}}]}}\n\n",
            words[index % words.len()]
        )
    };
    (0..count).map(event).collect::<String>().into_bytes()
}

fn filter_cost(bencher: Bencher<'_, '_>, finds: Vec<Find>, count: usize) {
    let places = vec![Place::Output];
    let rule = Rule { name: "r".into(), finds, places, action: Action::Mask, ..Rule::default() };
    let guards = Guards::compile(vec![rule]).expect("rules");
    let (events, mut out) = (chat_events(count), Vec::new());
    let mut filter = Filter::new(RecordForm::Sse, 1 << 20, Labels::default());
    bencher.counter(divan::counter::ItemsCount::new(count)).bench_local(|| {
        out.clear();
        filter.events(&guards, black_box(&events), &mut out, &|_| true, &mut |_| {})
    });
}

#[divan::bench(args = [1, 64])]
fn guard_200_words(bencher: Bencher<'_, '_>, count: usize) {
    filter_cost(
        bencher,
        (0..200).map(|number| Find::Phrase(format!("secret project {number}"))).collect(),
        count,
    );
}

#[divan::bench(args = [1, 64])]
fn guard_all_detectors(bencher: Bencher<'_, '_>, count: usize) {
    filter_cost(bencher, Detector::ALL.iter().map(|row| Find::Detector(row.1)).collect(), count);
}

/// What reads every event anyway.
#[divan::bench(args = [1, 64])]
fn meter_beside_guards(bencher: Bencher<'_, '_>, count: usize) {
    let events = chat_events(count);
    let mut meter = Meter::new(Api::Chat, 1, false);
    bencher
        .counter(divan::counter::ItemsCount::new(count))
        .bench_local(|| black_box(meter.events(black_box(&events)).drop.is_some()));
}
