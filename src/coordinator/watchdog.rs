//! Watches this process itself: shards that stand still, and memory that runs out.
//!
//! A shard that does not tick serves nobody, and nothing on it can say so: it is said here, once when it is noticed and
//! once when it moves again. Near the bound of memory new requests are refused until some is free, so that the streams
//! that run are not killed with the process; with nothing in work nothing could be freed by waiting, and none is refused.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::aggregate::{Current, Watch};
use super::process;
use crate::config::LogLevel;
use crate::observe::Counter;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// A shard that has not ticked for so long stands still: a hundred of its ticks.
const STILL: Duration = Duration::from_secs(1);

/// The share of the bound from which requests are refused, in percent.
const SHED_FROM: u64 = 95;

/// What is known of one shard.
struct Pulse {
    ticks: u64,
    moved: Instant,
    is_still: bool,
}

/// Looks for as long as the process runs.
pub(super) async fn run(current: Current) {
    let cgroup = process::memory_max();
    let mut pulses: Vec<Pulse> = Vec::new();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now();
    loop {
        looks.tick().await;
        let now = Instant::now();
        let watch = current.load_full();
        // A pause of the whole process is no fault of a shard's.
        let paused = now.duration_since(last) > STILL / 2;
        last = now;
        look_at_shards(&watch, &mut pulses, now, paused);
        let most = [watch.plan.limits.memory_bytes, cgroup].into_iter().flatten().min();
        look_at_memory(&watch, most);
    }
}

fn look_at_shards(watch: &Watch, pulses: &mut Vec<Pulse>, now: Instant, paused: bool) {
    let serving = watch.control.all_started() && !watch.control.stop_accepting();
    for (index, shard) in watch.shards.iter().enumerate() {
        let ticks = shard.numbers.get(Counter::Ticks);
        if index == pulses.len() {
            pulses.push(Pulse { ticks, moved: now, is_still: false });
        }
        let pulse = &mut pulses[index];
        if ticks != pulse.ticks || paused || !serving {
            if std::mem::take(&mut pulse.is_still) && serving {
                watch.say(LogLevel::Info, &format!("shard {} moves again", shard.shard.index()));
            }
            (pulse.ticks, pulse.moved) = (ticks, now);
        } else if !pulse.is_still && now.duration_since(pulse.moved) >= STILL {
            pulse.is_still = true;
            watch.control.count_stall();
            watch.say(
                LogLevel::Error,
                &format!("shard {} has stood still for {STILL:?}", shard.shard.index()),
            );
        }
    }
}

fn look_at_memory(watch: &Watch, most: Option<u64>) {
    let Some(most) = most else { return };
    let active: u64 = watch.shards.iter().map(|shard| shard.numbers.get(Counter::ExchangesActive)).sum();
    let used = process::resident_bytes().unwrap_or(0);
    let sheds = active > 0 && used > most / 100 * SHED_FROM;
    if sheds != watch.control.is_shedding() {
        watch.control.shed(sheds);
        if sheds {
            let words = format!("short of memory: {used} bytes of {most} in use, new requests are refused");
            watch.say(LogLevel::Error, &words);
        }
    }
}
