//! Which cores run a shard, and how each is tuned.

use super::bounds::within;
use crate::config::cores::{CORES_MAX, Cores, Machine};
use crate::config::entry::CoreNumber;
use crate::config::file::{CoreTuning, Shards};
use crate::config::problem::Report;
use crate::config::quantity::{Size, Time};
use crate::plan::ShardTuning;
use crate::units::Nanos;

/// One row per shard, in the order of the cores.
pub(super) fn compile(shards: &Shards, machine: &Machine, report: &mut Report<'_>) -> Vec<ShardTuning> {
    let base = base(shards);
    check(&["shards"], &base, &base, report);
    let (cores, pinned) = place(shards, machine, report);
    for (CoreNumber(core), own) in &shards.core {
        let number = core.to_string();
        let path = ["shards", "core", &number];
        if !pinned {
            report.problem(
                &path,
                "shards are not pinned to cores here; expected pin = true and a list of cores",
            );
        } else if !cores.contains(core) {
            report.problem(&path, format!("no shard runs on core {core}; shards run on {cores:?}"));
        }
        check(&path, own, &merged(&base, own), report);
    }
    let tuning = |core: usize| {
        let own = shards.core.get(&CoreNumber(core)).filter(|_| pinned);
        tuning(pinned.then_some(core), &own.map_or(base.clone(), |own| merged(&base, own)))
    };
    cores.into_iter().map(tuning).collect()
}

/// The cores to run on, and whether to pin to them.
///
/// If a container's quota gives fewer cores' worth of time than it may use, "auto" starts that many shards and pins
/// none: every container on the machine would pin to the same first cores.
fn place(shards: &Shards, machine: &Machine, report: &mut Report<'_>) -> (Vec<usize>, bool) {
    let mut pinned = shards.pin;
    let mut cores = match &shards.cores {
        Cores::Auto => machine.physical(),
        Cores::List(cores) => {
            for core in cores.iter().filter(|core| !machine.allows(**core)) {
                let allowed: Vec<usize> = machine.cores.iter().map(|core| core.number).collect();
                let text = format!("core {core} is not one this process may use; it may use {allowed:?}");
                report.problem(&["shards", "cores"], text);
            }
            cores.clone()
        }
    };
    match (shards.count, machine.quota) {
        (Some(count), _) => {
            if count == 0 || count > cores.len() {
                report.problem(
                    &["shards", "count"],
                    format!("is {count}; expected 1 to {}, the cores", cores.len()),
                );
            }
            cores.truncate(count.max(1));
        }
        (None, Some(quota)) if shards.cores == Cores::Auto && quota < cores.len() => {
            report.note(format!("the quota of this process is {quota} cores: as many shards, not pinned"));
            cores.truncate(quota.max(1));
            pinned = false;
        }
        _ => {}
    }
    assert!(!cores.is_empty() && cores.len() <= CORES_MAX, "a machine has cores");
    (cores, pinned)
}

/// The tuning of `[shards]`: every key is there.
fn base(shards: &Shards) -> CoreTuning {
    CoreTuning {
        ring_entries: Some(shards.ring_entries),
        connections_max: Some(shards.connections_max),
        small_buffer: Some(shards.small_buffer),
        large_buffer: Some(shards.large_buffer),
        buffers_kept: Some(shards.buffers_kept),
        idle_max: Some(shards.idle_max),
        busy_poll: Some(shards.busy_poll),
    }
}

fn merged(base: &CoreTuning, own: &CoreTuning) -> CoreTuning {
    CoreTuning {
        ring_entries: own.ring_entries.or(base.ring_entries),
        connections_max: own.connections_max.or(base.connections_max),
        small_buffer: own.small_buffer.or(base.small_buffer),
        large_buffer: own.large_buffer.or(base.large_buffer),
        buffers_kept: own.buffers_kept.or(base.buffers_kept),
        idle_max: own.idle_max.or(base.idle_max),
        busy_poll: own.busy_poll.or(base.busy_poll),
    }
}

/// The bounds of what was written here, and small_buffer < large_buffer in what comes of it.
fn check(path: &[&str], own: &CoreTuning, all: &CoreTuning, report: &mut Report<'_>) {
    let at = |key| [path, &[key]].concat();
    if let Some(entries) =
        own.ring_entries.filter(|entries| !entries.is_power_of_two() || !(64..=32_768).contains(entries))
    {
        report
            .problem(&at("ring_entries"), format!("is {entries}; expected a power of two from 64 to 32768"));
    }
    if let Some(count) = own.connections_max {
        within(&at("connections_max"), count, 1, 1_000_000, report);
    }
    for (key, size) in [("small_buffer", own.small_buffer), ("large_buffer", own.large_buffer)] {
        if let Some(size) = size {
            within(&at(key), size, Size::kib(1), Size::mib(4), report);
        }
    }
    if let Some(count) = own.buffers_kept {
        within(&at("buffers_kept"), count, 0, 1 << 20, report);
    }
    if let Some(count) = own.idle_max {
        within(&at("idle_max"), count, 0, 1 << 16, report);
    }
    if let Some(time) = own.busy_poll {
        within(&at("busy_poll"), time, Time::seconds(0), Time(Nanos(10_000_000)), report);
    }
    let (small, large) = (all.small_buffer, all.large_buffer);
    if let (Some(small), Some(large)) = (small, large)
        && small >= large
        && (own.small_buffer.or(own.large_buffer)).is_some()
    {
        report.problem(
            &at("small_buffer"),
            format!("is {small}; expected less than large_buffer, which is {large}"),
        );
    }
}

fn tuning(core: Option<usize>, all: &CoreTuning) -> ShardTuning {
    const WHOLE: &str = "the base has every key";
    ShardTuning {
        core,
        ring_entries: all.ring_entries.expect(WHOLE),
        connections_max: all.connections_max.expect(WHOLE),
        small_buffer_bytes: all.small_buffer.expect(WHOLE).bytes(),
        large_buffer_bytes: all.large_buffer.expect(WHOLE).bytes(),
        buffers_kept: all.buffers_kept.expect(WHOLE),
        idle_max: all.idle_max.expect(WHOLE),
        busy_poll_us: (all.busy_poll.expect(WHOLE).0.0 / 1_000) as u32,
    }
}
