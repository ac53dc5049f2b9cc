//! The orderly end: readiness fails first, listeners close after a grace, running exchanges get the drain limit,
//! what is left is cut. A second request cuts at once.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

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
pub(super) fn on_signals(stop: mpsc::Sender<()>) -> io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                // Full: enough requests are waiting to be seen.
                let _ = stop.try_send(());
            }
        });
    }
    Ok(())
}

/// Waits for a stop request and carries it out.
pub(super) async fn run(current: &Current, mut stops: mpsc::Receiver<()>) -> Ended {
    let control = current.load().control.clone();
    // A request that came just before the last shard ended was the reason for it.
    if !until(&control, &mut stops, Nanos::NEVER).await && stops.try_recv().is_err() {
        return Ended::ShardsGone;
    }
    control.drain();

    let grace_ends = clock::now().plus(Nanos::from(current.load().settings.drain_grace));
    let hurried = until(&control, &mut stops, grace_ends).await && clock::now() < grace_ends;
    let mut cut_at = clock::now().plus(if hurried { Nanos(0) } else { current.load().plan.timeouts.drain });
    control.stop(cut_at);

    let patience = Nanos::from(CUT_PATIENCE);
    while !control.all_ended() {
        if clock::now() >= cut_at.plus(patience) {
            return Ended::Stuck(control.running());
        }
        if until(&control, &mut stops, cut_at.plus(patience)).await {
            cut_at = cut_at.min(clock::now());
            control.stop(cut_at);
        }
    }
    Ended::Drained
}

/// True after a stop request or at `deadline`, whichever is first; false when the shards have ended.
async fn until(control: &Control, stops: &mut mpsc::Receiver<()>, deadline: Nanos) -> bool {
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
        Some(()) = stops.recv() => true,
        () = timer => true,
        () = gone => false,
    }
}
