//! Which cores run a shard, and how each is tuned.

use super::bounds::within;
use crate::config::cores::{CORES_MAX, Cores, Machine};
use crate::config::entry::CoreNumber;
use crate::config::file::{CoreTuning, Shards};
use crate::config::problem::Report;
use crate::config::quantity::Size;
use crate::plan::ShardTuning;

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
        small_block: Some(shards.small_block),
        large_block: Some(shards.large_block),
        blocks_kept: Some(shards.blocks_kept),
        idle_max: Some(shards.idle_max),
        busy_poll_us: Some(shards.busy_poll_us),
    }
}

fn merged(base: &CoreTuning, own: &CoreTuning) -> CoreTuning {
    CoreTuning {
        ring_entries: own.ring_entries.or(base.ring_entries),
        connections_max: own.connections_max.or(base.connections_max),
        small_block: own.small_block.or(base.small_block),
        large_block: own.large_block.or(base.large_block),
        blocks_kept: own.blocks_kept.or(base.blocks_kept),
        idle_max: own.idle_max.or(base.idle_max),
        busy_poll_us: own.busy_poll_us.or(base.busy_poll_us),
    }
}

/// The bounds of what was written here, and small_block < large_block in what comes of it.
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
    for (key, size) in [("small_block", own.small_block), ("large_block", own.large_block)] {
        if let Some(size) = size {
            within(&at(key), size, Size::kib(1), Size::mib(4), report);
        }
    }
    if let Some(count) = own.blocks_kept {
        within(&at("blocks_kept"), count, 0, 1 << 20, report);
    }
    if let Some(count) = own.idle_max {
        within(&at("idle_max"), count, 0, 1 << 16, report);
    }
    if let Some(micros) = own.busy_poll_us {
        within(&at("busy_poll_us"), micros, 0, 10_000, report);
    }
    let (small, large) = (all.small_block, all.large_block);
    if let (Some(small), Some(large)) = (small, large)
        && small >= large
        && (own.small_block.or(own.large_block)).is_some()
    {
        report.problem(
            &at("small_block"),
            format!("is {small}; expected less than large_block, which is {large}"),
        );
    }
}

fn tuning(core: Option<usize>, all: &CoreTuning) -> ShardTuning {
    const WHOLE: &str = "the base has every key";
    ShardTuning {
        core,
        ring_entries: all.ring_entries.expect(WHOLE),
        connections_max: all.connections_max.expect(WHOLE),
        small_block_bytes: all.small_block.expect(WHOLE).bytes(),
        large_block_bytes: all.large_block.expect(WHOLE).bytes(),
        blocks_kept: all.blocks_kept.expect(WHOLE),
        idle_max: all.idle_max.expect(WHOLE),
        busy_poll_us: all.busy_poll_us.expect(WHOLE),
    }
}
