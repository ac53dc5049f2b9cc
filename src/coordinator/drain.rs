//! The orderly end: readiness fails first, listeners close once a balancer had time to notice, running exchanges get the
//! drain limit, what is left is cut. Another request to stop goes on to the next of these steps at once.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::Stop;
use super::aggregate::Current;
use crate::clock;
use crate::plan::Control;
use crate::units::Nanos;

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Asked to, and every shard has ended.
    Drained,
    /// Asked to, but so many shards had not ended some time after their last exchange was to be cut.
    Stuck(usize),
    /// Not asked to: every shard has ended by itself, which is a fault of ours.
    ShardsGone,
}

/// Time between two looks at shards that are to end.
const LOOK: Duration = Duration::from_millis(10);

/// Time between two looks at shards that should serve on.
const LOOK_SERVING: Duration = Duration::from_millis(500);

/// How long shards may take to cut what is left and end. Taste: one write per connection, thousands of them.
const CUT_PATIENCE: Duration = Duration::from_secs(2);

/// Sends a stop request for every SIGTERM and SIGINT. Called inside the runtime.
pub(super) fn on_signals(stop: mpsc::Sender<Stop>) -> io::Result<()> {
    for (kind, why) in [(SignalKind::terminate(), Stop::Asked), (SignalKind::interrupt(), Stop::Interrupted)]
    {
        let mut signals = signal(kind)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                // Full: enough requests are waiting to be seen.
                let _ = stop.try_send(why);
            }
        });
    }
    Ok(())
}

/// Waits for a stop request and carries it out.
pub(super) async fn run(current: &Current, mut stops: mpsc::Receiver<Stop>) -> Ended {
    let control = current.load().control.clone();
    // A request that came just before the last shard ended was the reason for it.
    let why = match until(&control, &mut stops, Nanos::NEVER).await {
        Woken::Stop(why) => why,
        _ => match stops.try_recv() {
            Ok(why) => why,
            Err(_) => return Ended::ShardsGone,
        },
    };
    control.drain();
    let watch = current.load_full();

    // Whoever balances before a replaced process has nothing to notice, and nobody balances before a terminal.
    let accepts = if why == Stop::Asked { watch.plan.timeouts.accept_after_term } else { Nanos(0) };
    if accepts > Nanos(0) {
        until(&control, &mut stops, clock::now().plus(accepts)).await;
    }
    let mut cut_at = clock::now().plus(watch.plan.timeouts.drain);
    if let Some(handover) = &watch.settings.handover {
        handover.close();
    }
    control.stop(cut_at);

    let patience = Nanos::from(CUT_PATIENCE);
    while !control.all_ended() {
        if clock::now() >= cut_at.plus(patience) {
            return Ended::Stuck(control.running());
        }
        if let Woken::Stop(_) = until(&control, &mut stops, cut_at.plus(patience)).await {
            cut_at = cut_at.min(clock::now());
            control.stop(cut_at);
        }
    }
    Ended::Drained
}

/// What a wait has ended by.
enum Woken {
    Stop(Stop),
    Due,
    /// Every shard has ended.
    Gone,
}

/// Waits for a stop request, `deadline`, or the end of the shards, whichever is first.
async fn until(control: &Control, stops: &mut mpsc::Receiver<Stop>, deadline: Nanos) -> Woken {
    let left = deadline.since(clock::now());
    let timer = async {
        match deadline {
            Nanos::NEVER => std::future::pending().await,
            _ => tokio::time::sleep_until(Instant::now() + Duration::from_nanos(left.0)).await,
        }
    };
    let gone = async {
        let pause = if deadline == Nanos::NEVER { LOOK_SERVING } else { LOOK };
        while !control.all_ended() {
            sleep(pause).await;
        }
    };
    tokio::select! {
        Some(why) = stops.recv() => Woken::Stop(why),
        () = timer => Woken::Due,
        () = gone => Woken::Gone,
    }
}
