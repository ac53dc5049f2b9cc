//! What does reading cost? Nanoseconds, bytes per second and allocations of each parser of `wire`, on inputs of the
//! shapes that a gateway sees all day. Every input is whole and in cache, and every sample runs many times over: this
//! is the cost of looking, not of memory. `copy_256_kib` is the yardstick of the machine. A row without allocation
//! lines allocates nothing.
//!
//! `cargo bench --bench wire`

use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher, black_box};
use ringway::wire::chunked::{Chunked, Limits, Piece};
use ringway::wire::head::{HeadLimits, Method};
use ringway::wire::{fields, head, json, sse};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const LIMITS: HeadLimits = HeadLimits { bytes: 64 << 10, lines: 100, target_bytes: 16 << 10 };

/// Four lines, as a load generator sends.
const SMALL: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer sk-0123456789abcdef\r\n\
                     Content-Type: application/json\r\nContent-Length: 2048\r\n\r\n";

/// Fifteen lines, as a client library sends.
const LIBRARY: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway.example.com\r\nAccept-Encoding: gzip, deflate\r\n\
                       Connection: keep-alive\r\nAccept: application/json\r\nContent-Type: application/json\r\n\
                       User-Agent: OpenAI/Python 2.8.0\r\nX-Stainless-Lang: python\r\n\
                       X-Stainless-Package-Version: 2.8.0\r\nX-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\n\
                       X-Stainless-Runtime: CPython\r\nX-Stainless-Runtime-Version: 3.13.1\r\n\
                       Authorization: Bearer sk-0123456789abcdef0123456789abcdef\r\nX-Stainless-Async: async:asyncio\r\n\
                       Content-Length: 2048\r\n\r\n";

/// The head of a stream, as vLLM sends it.
const ANSWER: &str = "HTTP/1.1 200 OK\r\ndate: Sun, 22 Nov 2026 10:00:00 GMT\r\nserver: uvicorn\r\n\
                      content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";

#[divan::bench(sample_size = 64)]
fn copy_256_kib(bencher: Bencher<'_, '_>) {
    let body = chat(256 << 10);
    let mut out = vec![0; body.len()];
    bencher.counter(BytesCount::of_slice(&body)).bench_local(|| {
        out.copy_from_slice(black_box(&body));
        black_box(&mut out);
    });
}

#[divan::bench(args = ["4 lines", "15 lines"], sample_size = 256)]
fn head_request(bencher: Bencher<'_, '_>, shape: &str) {
    let text = if shape == "4 lines" { SMALL } else { LIBRARY };
    bencher
        .counter(BytesCount::of_str(text))
        .bench_local(|| head::request(black_box(text.as_bytes()), &mut 0, &LIMITS));
}

#[divan::bench(sample_size = 64)]
fn head_response(bencher: Bencher<'_, '_>) {
    bencher
        .counter(BytesCount::of_str(ANSWER))
        .bench_local(|| head::response(black_box(ANSWER.as_bytes()), &mut 0, &LIMITS, Method::Post));
}

/// What forwarding asks of each line.
#[divan::bench(sample_size = 64)]
fn fields_15_lines(bencher: Bencher<'_, '_>) {
    let start = LIBRARY.find("\r\n").unwrap_or(0) + 2;
    let lines = &LIBRARY.as_bytes()[start..LIBRARY.len() - 2];
    bencher.counter(BytesCount::of_slice(lines)).bench_local(|| {
        fields::lines(black_box(lines)).filter(|line| fields::to_backend(fields::classify(line.name))).count()
    });
}

/// 64 chunks of one event each.
#[divan::bench(sample_size = 64)]
fn chunked_16_kib(bencher: Bencher<'_, '_>) {
    let event = event(250);
    let block = format!("{:x}\r\n{event}\r\n", event.len()).repeat(64);
    bencher.counter(BytesCount::of_str(&block)).bench_local(|| {
        let mut body = Chunked::new(Limits::default());
        let (mut at, mut data) = (0, 0);
        while let Ok((Piece::Data(span), used)) = body.step(&black_box(block.as_bytes())[at..]) {
            at += used;
            data += span.len();
        }
        data
    });
}

#[divan::bench(sample_size = 64)]
fn sse_last_boundary_16_kib(bencher: Bencher<'_, '_>) {
    let block = event(250).repeat(64) + "data: {\"id\":";
    bencher
        .counter(BytesCount::of_str(&block))
        .bench_local(|| sse::last_boundary(black_box(block.as_bytes())));
}

/// Every event of a block, its data line found.
#[divan::bench(sample_size = 64)]
fn sse_events_16_kib(bencher: Bencher<'_, '_>) {
    let block = event(250).repeat(64);
    bencher.counter(BytesCount::of_str(&block)).bench_local(|| {
        let block = black_box(block.as_bytes());
        sse::events(block).filter(|span| sse::event(span.of(block)).data.is_some()).count()
    });
}

#[divan::bench(args = [2 << 10, 256 << 10], sample_size = 64)]
fn json_members(bencher: Bencher<'_, '_>, bytes: usize) {
    let body = chat(bytes);
    bencher
        .counter(BytesCount::of_slice(&body))
        .bench_local(|| json::members(black_box(&body)).filter(|member| member.is_ok()).count());
}

/// A string of nothing but escapes: the worst text.
#[divan::bench]
fn json_escapes_1_mib(bencher: Bencher<'_, '_>) {
    let body = format!("{{\"a\":\"{}\"}}", "\\u0041".repeat((1 << 20) / 6));
    bencher
        .counter(BytesCount::of_str(&body))
        .bench_local(|| json::members(black_box(body.as_bytes())).count());
}

/// An event without usage, one with, and a whole response with usage at its end.
#[divan::bench(args = ["event", "event with usage", "16 KiB answer"], sample_size = 256)]
fn json_find_object(bencher: Bencher<'_, '_>, shape: &str) {
    let usage = "\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":34,\"total_tokens\":46}}";
    let text = match shape {
        "event" => event(250),
        "event with usage" => event(170).replace("\"usage\":null}", usage),
        _ => format!("{{\"choices\":[{{\"content\":\"{}\"}}],{usage}", "lorem ipsum ".repeat(1_365)),
    };
    let finder = json::Finder::new("usage");
    bencher
        .counter(BytesCount::of_str(&text))
        .bench_local(|| json::find_object(black_box(text.as_bytes()), &finder));
}

/// A chat request of about `bytes`, with an escape every 60 bytes of content, as prose with line ends has.
fn chat(bytes: usize) -> Vec<u8> {
    let line = "The quick brown fox jumps over the lazy dog, again and so \\n";
    let turn =
        |role: &str, lines: usize| format!("{{\"role\":\"{role}\",\"content\":\"{}\"}}", line.repeat(lines));
    let turns = 8;
    let lines = (bytes / turns).saturating_sub(40) / line.len();
    let messages: Vec<_> = (0..turns).map(|index| turn(["user", "assistant"][index % 2], lines)).collect();
    format!(
        "{{\"model\":\"llama-3.1-8b\",\"messages\":[{}],\"stream\":true,\"max_tokens\":256,\"temperature\":0.7}}",
        messages.join(",")
    )
    .into_bytes()
}

/// One streamed chat event of about `bytes`.
fn event(bytes: usize) -> String {
    let id = "0".repeat(bytes.saturating_sub(160));
    format!(
        "data: {{\"id\":\"chatcmpl-{id}\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
         \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" a\"}},\"finish_reason\":null}}],\"usage\":null}}\n\n"
    )
}
