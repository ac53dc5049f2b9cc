//! Many streams held open: which ones drop, and how evenly their tokens come.

use super::client::Idle;
use super::prompt::Shape;
use super::report::{Held, Report};
use super::tally::{Limits, Tally, Tokens, Window};
use super::target::Target;
use super::{Options, Progress, until};
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// What the streams share.
struct Holder {
    target: Target,
    request: Vec<u8>,
    tally: RefCell<Tally>,
    open: Cell<usize>,
    open_max: Cell<usize>,
    dropped: Cell<u64>,
    renewed: Cell<u64>,
    end: Instant,
    timeout: Duration,
}

/// Opens `streams` streams over the ramp and keeps each open until the measured time is over. A stream that ends
/// properly before is opened again; one that does not is counted as dropped and opened again too.
pub(super) async fn run(
    options: &Options,
    target: Target,
    streams: usize,
    mut progress: impl FnMut(Progress),
) -> Result<Report, String> {
    let ramp = super::seconds("--ramp", options.ramp)?;
    let length = super::seconds("--duration", options.duration)?;
    let begin = Instant::now();
    let window = Window { start: begin + ramp, length };
    let limits = Limits {
        ttft: super::seconds("--ttft-limit-ms", options.ttft_limit_ms / 1e3)?,
        between: super::seconds("--itl-limit-ms", options.itl_limit_ms / 1e3)?,
    };
    let shape = Shape {
        model: options.model.clone(),
        stream: true,
        ignore_eos: options.ignore_eos,
        seed: options.seed,
    };
    let text = shape.text(options.prompt_tokens, 0, 0, 0);
    let holder = Rc::new(Holder {
        request: target.request(&shape.body(&text, options.output_tokens)),
        target,
        tally: RefCell::new(Tally::new(window, limits)),
        open: Cell::new(0),
        open_max: Cell::new(0),
        dropped: Cell::new(0),
        renewed: Cell::new(0),
        end: window.start + length,
        timeout: super::seconds("--timeout", options.timeout)?,
    });
    let sources = sources(options, streams, holder.target.address.ip());
    for stream in 0..streams {
        let opens = begin + ramp.mul_f64(stream as f64 / streams.max(1) as f64);
        let source = (!sources.is_empty()).then(|| sources[stream % sources.len()]);
        let holder = holder.clone();
        tokio::task::spawn_local(async move { holder.keep(opens, source).await });
    }
    let mut beat = tokio::time::interval(Duration::from_millis(200));
    while Instant::now() < holder.end {
        tokio::select! {
            _ = beat.tick() => {}
            () = tokio::time::sleep_until(holder.end) => {}
        }
        let share = begin.elapsed().as_secs_f64() / (holder.end - begin).as_secs_f64();
        let good = holder.tally.borrow().tokens;
        progress(Progress {
            share: share.min(1.0),
            good,
            failed: holder.dropped.get(),
            inflight: holder.open.get(),
        });
    }
    let tally = holder.tally.borrow();
    let mut report = Report::of(options, &tally);
    report.held = Some(Held {
        wanted: streams as u64,
        open_max: holder.open_max.get() as u64,
        open_at_end: holder.open.get() as u64,
        dropped: holder.dropped.get(),
        renewed: holder.renewed.get(),
    });
    Ok(report)
}

impl Holder {
    /// One place in the crowd: a stream after the other until the end.
    async fn keep(&self, opens: Instant, source: Option<IpAddr>) {
        until(opens).await;
        let idle = Idle::default();
        while Instant::now() < self.end {
            self.open.set(self.open.get() + 1);
            self.open_max.set(self.open_max.get().max(self.open.get()));
            let sent = Instant::now();
            let mut tokens = Tokens::default();
            let token = |now| {
                let gap = tokens.came(now);
                let mut tally = self.tally.borrow_mut();
                if tally.window.has(now) {
                    tally.token(now, gap);
                }
            };
            let outcome =
                idle.exchange(self.target.address, source, &self.request, self.timeout, token).await;
            self.open.set(self.open.get() - 1);
            if Instant::now() >= self.end {
                return;
            }
            self.tally.borrow_mut().ended(sent, sent, &tokens, &outcome);
            match outcome.failure {
                None => self.renewed.set(self.renewed.get() + 1),
                Some(_) => {
                    self.dropped.set(self.dropped.get() + 1);
                    tokio::time::sleep(super::RETRY_PAUSE).await;
                }
            }
        }
    }
}

/// Loopback source addresses: one address has about 28,000 ports towards one listener.
fn sources(options: &Options, streams: usize, target: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V4(target) = target else {
        return Vec::new();
    };
    let count = if options.sources > 0 {
        usize::from(options.sources)
    } else if target.is_loopback() && streams > PORTS_PER_SOURCE {
        streams.div_ceil(PORTS_PER_SOURCE)
    } else {
        0
    };
    (0..count.min(250)).map(|index| Ipv4Addr::new(127, 0, 0, 2 + index as u8).into()).collect()
}

const PORTS_PER_SOURCE: usize = 20_000;
