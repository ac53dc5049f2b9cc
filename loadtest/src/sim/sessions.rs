//! The simulator's sessions as a real client: the same conversations over HTTP, each turn after the response before it.

use super::workload::{Segment, Session, Speaker, Workload};
use super::{median, quantile};
use crate::chance::{Chance, mix};
use crate::drive::client::Idle;
use crate::drive::target::Target;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// What to send, and where.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The gateway's URL.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// API key.
    #[arg(long)]
    pub key: Option<String>,
    /// Model to ask for.
    #[arg(long, default_value = "mock-model")]
    pub model: String,
    /// Traffic.
    #[arg(long, value_enum, default_value = "chat")]
    pub workload: Workload,
    /// Load as a share of what the engines could compute if every prefix were computed once.
    #[arg(long, default_value_t = 0.5)]
    pub load: f64,
    /// Engines behind the gateway, and how fast each prefills, for the load.
    #[arg(long, default_value_t = 8)]
    pub engines: usize,
    /// Prompt tokens that an engine computes per second.
    #[arg(long, default_value_t = 20_000.0)]
    pub prefill_rate: f64,
    /// Fixes all chance.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Seconds of traffic.
    #[arg(long, default_value_t = 40.0)]
    pub seconds: f64,
    /// Of those, at the start, not measured.
    #[arg(long, default_value_t = 10.0)]
    pub warm_up: f64,
}

/// What came of it.
#[derive(Debug, Default, serde::Serialize)]
pub struct Report {
    /// Time to first token in milliseconds, at 50, 90 and 99 %.
    pub first_token_ms: [f64; 3],
    /// Share of prompt tokens that came from a cache, by the engines' own count.
    pub hit_ratio: f64,
    /// Turns that ended well after the warm-up.
    pub completed: u64,
    /// Turns that failed, by the reason.
    pub failed: BTreeMap<String, u64>,
    /// Turns that waited for a first token at the end; they count with the time they have waited.
    pub starved: u64,
}

#[derive(Default)]
struct Tally {
    first_token: Vec<f64>,
    /// When the turns that wait for a first token were sent.
    waiting: BTreeMap<u64, Instant>,
    number: u64,
    prompt_tokens: u64,
    cached_tokens: u64,
    completed: u64,
    failed: BTreeMap<String, u64>,
}

/// Sends the sessions and measures.
///
/// # Errors
/// The URL is none, or the runtime does not start.
pub fn run(options: &Options) -> Result<Report, String> {
    let target = Target::new(&options.url, options.key.as_deref(), &[])?;
    let work = options.workload.work_seconds(options.seed, options.prefill_rate, 50e-6);
    let rate = options.load * options.engines as f64 / work;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let tally = Rc::new(RefCell::new(Tally::default()));
    let local = tokio::task::LocalSet::new();
    let begun = local.block_on(&runtime, async {
        let begun = Instant::now();
        let end = begun + Duration::from_secs_f64(options.seconds);
        let client = Rc::new(Client {
            target,
            idle: Idle::default(),
            tally: tally.clone(),
            measured: begun + Duration::from_secs_f64(options.warm_up),
            end,
            model: options.model.clone(),
        });
        let mut arrivals = Chance::new(mix(options.seed));
        let (mut at, mut index) = (begun, 0);
        while at < end {
            tokio::time::sleep_until(at).await;
            let session = options.workload.session(options.seed, index);
            let client = client.clone();
            tokio::task::spawn_local(async move { client.converse(session).await });
            index += 1;
            at += Duration::from_secs_f64(arrivals.exponential(1.0 / rate));
        }
        tokio::time::sleep_until(end).await;
        begun
    });
    let (mut tally, end) = (tally.take(), begun + Duration::from_secs_f64(options.seconds));
    let starved = tally.waiting.len() as u64;
    let waited: Vec<f64> = tally.waiting.values().map(|sent| (end - *sent).as_secs_f64()).collect();
    tally.first_token.extend(waited);
    Ok(Report {
        first_token_ms: [0.5, 0.9, 0.99].map(|share| 1e3 * quantile(&tally.first_token, share)),
        hit_ratio: tally.cached_tokens as f64 / tally.prompt_tokens.max(1) as f64,
        completed: tally.completed,
        failed: tally.failed,
        starved,
    })
}

struct Client {
    target: Target,
    idle: Idle,
    tally: Rc<RefCell<Tally>>,
    measured: Instant,
    end: Instant,
    model: String,
}

impl Client {
    async fn converse(self: Rc<Self>, session: Session) {
        for (turn, asked) in session.turns.iter().enumerate() {
            tokio::time::sleep(Duration::from_secs_f64(asked.think)).await;
            if turn == 0 && session.siblings > 0 {
                for sibling in 1..=session.siblings {
                    let (client, session) = (self.clone(), session.clone());
                    tokio::task::spawn_local(async move { client.ask(&session, 0, sibling).await });
                }
            }
            if !self.ask(&session, turn, 0).await {
                return;
            }
        }
    }

    /// One turn; false if the session is over.
    async fn ask(&self, session: &Session, turn: usize, sibling: usize) -> bool {
        let request = self.target.request(&body(session, turn, sibling, &self.model));
        let sent = Instant::now();
        if sent >= self.end {
            return false;
        }
        let measured = sent >= self.measured;
        let number = {
            let mut tally = self.tally.borrow_mut();
            tally.number += 1;
            let number = tally.number;
            if measured {
                tally.waiting.insert(number, sent);
            }
            number
        };
        let first = |now: Instant| {
            let mut tally = self.tally.borrow_mut();
            if tally.waiting.remove(&number).is_some() {
                tally.first_token.push((now - sent).as_secs_f64());
            }
        };
        let outcome = self.idle.exchange(self.target.address, None, &request, LIMIT, first).await;
        let mut tally = self.tally.borrow_mut();
        tally.waiting.remove(&number);
        match outcome.failure {
            Some(failure) => {
                *tally.failed.entry(failure.to_string()).or_default() += 1;
                false
            }
            None if measured => {
                tally.completed += 1;
                tally.prompt_tokens += session.prompt_tokens(turn) as u64;
                tally.cached_tokens += outcome.seen.cached_tokens.unwrap_or(0);
                true
            }
            None => true,
        }
    }
}

/// The JSON of a turn.
fn body(session: &Session, turn: usize, sibling: usize, model: &str) -> String {
    let asked = &session.turns[turn];
    let segments = &session.text[..asked.segments];
    let mut body = String::with_capacity(session.prompt_tokens(turn) * 4 + segments.len() * 64 + 256);
    body.push_str("{\"model\":\"");
    body.push_str(model);
    body.push_str("\",\"messages\":[");
    for (index, segment) in segments.iter().enumerate() {
        if index > 0 {
            body.push(',');
        }
        let role = match segment.speaker {
            Speaker::System => "system",
            Speaker::User => "user",
            Speaker::Assistant => "assistant",
        };
        body.push_str("{\"role\":\"");
        body.push_str(role);
        body.push_str("\",\"content\":\"");
        let own = if index + 1 == segments.len() { sibling as u64 } else { 0 };
        say(&Segment { id: mix(segment.id ^ own << 48), ..*segment }, &mut body);
        body.push_str("\"}");
    }
    let output = asked.output_tokens;
    body.push_str(&format!(
        "],\"stream\":true,\"stream_options\":{{\"include_usage\":true}},\"ignore_eos\":true,\"max_tokens\":{output}}}"
    ));
    body
}

/// The text of a segment: four bytes for each token, without anything JSON would escape.
fn say(segment: &Segment, out: &mut String) {
    let mut chance = Chance::new(segment.id);
    for _ in 0..segment.tokens.div_ceil(2) {
        let mut word = chance.word();
        for _ in 0..7 {
            out.push(char::from(b'a' + (word % 26) as u8));
            word /= 26;
        }
        out.push(' ');
    }
}

impl Report {
    /// One line of a table.
    pub fn line(&self) -> String {
        let [p50, p90, p99] = self.first_token_ms;
        let failed: u64 = self.failed.values().sum();
        format!(
            "hit {:.3}  TTFT ms p50 {p50:.0} p90 {p90:.0} p99 {p99:.0}  turns {}  failed {failed}  starved {}",
            self.hit_ratio, self.completed, self.starved
        )
    }

    /// The middle one of several reports, figure by figure.
    pub fn middle(reports: &[Self]) -> Self {
        let over = |value: &dyn Fn(&Self) -> f64| median(reports.iter().map(value).collect());
        Self {
            first_token_ms: [0, 1, 2].map(|at| over(&|report| report.first_token_ms[at])),
            hit_ratio: over(&|report| report.hit_ratio),
            completed: over(&|report| report.completed as f64) as u64,
            failed: reports.iter().flat_map(|report| report.failed.clone()).collect(),
            starved: over(&|report| report.starved as f64) as u64,
        }
    }
}

/// Patience for one turn.
const LIMIT: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_body_has_four_bytes_a_token_and_extends_the_turn_before_it() {
        let session = Workload::Chat.session(1, 3);
        let text = |turn| {
            let body: Value = serde_json::from_str(&body(&session, turn, 0, "m")).unwrap();
            let messages = body["messages"].as_array().unwrap().clone();
            messages.iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let (first, second) = (text(0), text(1));
        assert_eq!(second[..first.len()], first);
        let bytes: usize = first.iter().map(String::len).sum();
        assert!(bytes.abs_diff(4 * session.prompt_tokens(0)) <= 8 * first.len());
    }
}
