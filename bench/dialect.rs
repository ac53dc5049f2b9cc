//! What does it cost to know what a stream says? Nanoseconds per block of events, and per request body.
//!
//! Shapes: chat chunks of about 210 bytes with a word of text each, as one event and as a block of 64 (divide by 64);
//! with `"usage":null` in each chunk as OpenAI sends it, and with counts in each as vLLM's continuous usage does;
//! Responses and Messages deltas. A 2 KiB and a 64 KiB chat request.
//! Budget: 60 ns per event in a block of 64, 150 ns for a single event.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use ringway::dialect::Api;
use ringway::dialect::request::peek;
use ringway::dialect::stream::{Meter, TextMeter};
use ringway::dialect::usage::BodyMeter;

fn main() {
    divan::main();
}

const WORDS: [&str; 8] = [" the", " error", " quick", "\\n", " tokens", " {", "stop", " usage"];

fn chat(events: usize, after: &str) -> String {
    (0..events)
        .map(|index| {
            format!(
                "data: {{\"id\":\"chatcmpl-8f3c2b1a9d7e4f60a1b2c3d4\",\"object\":\"chat.completion.chunk\",\
                 \"created\":1735689600,\"model\":\"llama-3-8b\",\"choices\":[{{\"index\":0,\"delta\":\
                 {{\"content\":\"{}\"}},\"logprobs\":null,\"finish_reason\":null}}]{after}}}\n\n",
                WORDS[index % WORDS.len()]
            )
        })
        .collect()
}

/// A meter that has seen its first token.
fn running(api: Api, events: &str) -> Meter {
    let mut meter = Meter::new(api, 1, true);
    assert!(meter.events(events.as_bytes()).first_token);
    meter
}

fn follow(bencher: Bencher<'_, '_>, api: Api, block: String) {
    let mut meter = running(api, &block);
    bencher.counter(BytesCount::of_str(&block)).bench_local(|| meter.events(black_box(block.as_bytes())));
}

#[divan::bench(args = [1, 64])]
fn chat_events(bencher: Bencher<'_, '_>, events: usize) {
    follow(bencher, Api::Chat, chat(events, ""));
}

#[divan::bench(args = [1, 64])]
fn chat_events_usage_null(bencher: Bencher<'_, '_>, events: usize) {
    follow(bencher, Api::Chat, chat(events, ",\"usage\":null"));
}

#[divan::bench(args = [1, 64])]
fn chat_events_continuous_usage(bencher: Bencher<'_, '_>, events: usize) {
    let usage = ",\"usage\":{\"prompt_tokens\":900,\"total_tokens\":950,\"completion_tokens\":50}";
    follow(bencher, Api::Chat, chat(events, usage));
}

/// The text of the same events, for a key whose tokens are limited.
#[divan::bench(args = [1, 64])]
fn chat_text(bencher: Bencher<'_, '_>, events: usize) {
    let block = chat(events, "");
    let mut meter = TextMeter::of_stream(Api::Chat);
    bencher.counter(BytesCount::of_str(&block)).bench_local(|| meter.count(black_box(block.as_bytes())));
}

#[divan::bench(args = [1, 64])]
fn responses_events(bencher: Bencher<'_, '_>, events: usize) {
    let event = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\
        \"sequence_number\":12,\"item_id\":\"msg_8f3c2b1a9d7e4f60a1b2c3d4\",\"output_index\":0,\
        \"content_index\":0,\"delta\":\" quick\",\"logprobs\":[]}\n\n";
    follow(bencher, Api::Responses, event.repeat(events));
}

#[divan::bench(args = [1, 64])]
fn messages_events(bencher: Bencher<'_, '_>, events: usize) {
    let event = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\
        \"delta\":{\"type\":\"text_delta\",\"text\":\" quick\"}}\n\n";
    follow(bencher, Api::Messages, event.repeat(events));
}

/// The first events: the search for output is still on.
#[divan::bench]
fn chat_first_token(bencher: Bencher<'_, '_>) {
    let block = chat(1, "");
    bencher.bench_local(|| Meter::new(Api::Chat, 1, true).events(black_box(block.as_bytes())).first_token);
}

#[divan::bench]
fn body_of_4_kib(bencher: Bencher<'_, '_>) {
    let text = "a \\\"quoted\\\" word and ".repeat(170);
    let body = format!(
        "{{\"choices\":[{{\"message\":{{\"content\":\"{text}\"}}}}],\
         \"usage\":{{\"prompt_tokens\":900,\"completion_tokens\":50,\"total_tokens\":950}}}}"
    );
    bencher.counter(BytesCount::of_str(&body)).bench_local(|| {
        let mut meter = BodyMeter::default();
        meter.block(black_box(body.as_bytes()));
        *meter.usage()
    });
}

#[divan::bench(args = [2, 64])]
fn peek_and_edit(bencher: Bencher<'_, '_>, kib: usize) {
    let text = "Tell me about the quick brown fox. ".repeat(kib * 1024 / 35);
    let body = format!(
        "{{\"model\":\"public\",\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}],\"temperature\":0.7,\
         \"top_p\":1,\"stream\":true,\"max_tokens\":500,\"stop\":null,\"user\":\"u\"}}"
    );
    bencher.counter(BytesCount::of_str(&body)).bench_local(|| {
        let peek = peek(Api::Chat, black_box(body.as_bytes())).unwrap();
        peek.edits(Some(b"\"org/real\""), None, true).length(body.len())
    });
}
