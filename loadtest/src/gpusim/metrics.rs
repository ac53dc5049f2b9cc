//! What the simulator tells about itself: vLLM's metric names, and plain counts that add up.

use super::ticker::Ticker;
use serde_json::{Value, json};
use std::cell::Cell;

/// Counts since start. `received = completed + refused + faulted + aborted` once nothing is in flight.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections accepted.
    pub connections: Cell<u64>,
    /// Connections open now.
    pub connections_open: Cell<u64>,
    /// Requests for work (chat, embeddings, ...) taken.
    pub received: Cell<u64>,
    /// Of those, answered in full.
    pub completed: Cell<u64>,
    /// Of those, answered with an error.
    pub refused: Cell<u64>,
    /// Of those, broken on purpose.
    pub faulted: Cell<u64>,
    /// Of those, left by their client before the end.
    pub aborted: Cell<u64>,
    /// Records of streams written.
    pub events: Cell<u64>,
    /// Bytes of all answers written.
    pub bytes: Cell<u64>,
    /// Generated tokens written.
    pub tokens: Cell<u64>,
    /// Answers that ended because the model was done.
    pub stopped: Cell<u64>,
    /// Answers that ended at their token limit.
    pub at_length: Cell<u64>,
}

/// Adds to a count.
pub fn add(count: &Cell<u64>, more: u64) {
    count.set(count.get() + more);
}

/// The JSON of `GET /sim/state`.
pub fn state(counts: &Counts, ticker: &Ticker) -> Value {
    let engine = ticker.engine();
    let totals = engine.totals();
    json!({
        "connections": counts.connections.get(),
        "connections_open": counts.connections_open.get(),
        "received": counts.received.get(),
        "running": engine.running(),
        "waiting": engine.waiting(),
        "completed": counts.completed.get(),
        "refused": counts.refused.get(),
        "faulted": counts.faulted.get(),
        "aborted": counts.aborted.get(),
        "events": counts.events.get(),
        "bytes": counts.bytes.get(),
        "tokens": counts.tokens.get(),
        "tokens_generated": totals.generated_tokens,
        "prompt_tokens": totals.prompt_tokens,
        "prefix_hits": totals.prefix_hits,
        "preemptions": totals.preemptions,
        "kv_usage": engine.kv_usage(),
    })
}

/// The text of `GET /metrics`, under vLLM's names for what it has a name for.
pub fn text(counts: &Counts, ticker: &Ticker, model: &str) -> String {
    let engine = ticker.engine();
    let totals = engine.totals();
    let mut page = String::new();
    let mut line = |kind: &str, name: &str, extra: &str, value: f64| {
        use std::fmt::Write;
        let family = name;
        if !page.contains(&format!("# TYPE {family} ")) {
            let _ = writeln!(page, "# TYPE {family} {kind}");
        }
        let _ = writeln!(page, "{name}{{engine=\"0\",model_name=\"{model}\"{extra}}} {value}");
    };
    line("gauge", "vllm:num_requests_running", "", engine.running() as f64);
    line("gauge", "vllm:num_requests_waiting", "", engine.waiting() as f64);
    line("gauge", "vllm:kv_cache_usage_perc", "", engine.kv_usage());
    line("counter", "vllm:prefix_cache_queries_total", "", totals.prefix_queries as f64);
    line("counter", "vllm:prefix_cache_hits_total", "", totals.prefix_hits as f64);
    line("counter", "vllm:num_preemptions_total", "", totals.preemptions as f64);
    line("counter", "vllm:prompt_tokens_total", "", totals.prompt_tokens as f64);
    line("counter", "vllm:generation_tokens_total", "", totals.generated_tokens as f64);
    let finished = "vllm:request_success_total";
    line("counter", finished, ",finished_reason=\"stop\"", counts.stopped.get() as f64);
    line("counter", finished, ",finished_reason=\"length\"", counts.at_length.get() as f64);
    line("counter", finished, ",finished_reason=\"abort\"", counts.aborted.get() as f64);
    line("counter", "sim:requests_received_total", "", counts.received.get() as f64);
    line("counter", "sim:requests_faulted_total", "", counts.faulted.get() as f64);
    line("counter", "sim:requests_aborted_total", "", counts.aborted.get() as f64);
    page
}
