//! What to change on a machine, and why.

use std::collections::BTreeSet;

use serde::Serialize;

use super::machine::{Card, Machine};
use crate::cli::serve;
use crate::plan::Plan;

/// What the gateway will do here.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) shards: usize,
    /// Clients of one shard.
    pub(super) connections: usize,
    pub(super) listeners: usize,
    /// The cores of the shards, if they are pinned.
    pub(super) cores: Vec<usize>,
}

impl Wanted {
    /// What a configuration says.
    pub(super) fn of(plan: &Plan) -> Self {
        Self {
            shards: plan.shards.len(),
            connections: plan.shards.iter().map(|shard| shard.connections_max).max().unwrap_or(0),
            listeners: plan.listeners.len(),
            cores: plan.shards.iter().filter_map(|shard| shard.core).collect(),
        }
    }

    /// The defaults: a shard on each physical core.
    pub(super) fn usual(machine: &Machine) -> Self {
        let cores = machine.physical.clone();
        Self { shards: cores.len().max(1), connections: 16_384, listeners: 1, cores }
    }
}

/// One change.
#[derive(Serialize, PartialEq, Eq, Debug)]
pub(super) struct Advice {
    /// The setting.
    pub(super) what: String,
    /// Its value, and a better one.
    pub(super) now: String,
    pub(super) better: String,
    pub(super) why: &'static str,
    /// Commands that change it, one a line.
    pub(super) how: String,
}

/// All changes, the most important first.
pub(super) fn of(machine: &Machine, wanted: &Wanted) -> Vec<Advice> {
    let found = [
        ring(machine),
        descriptors(machine, wanted),
        quota(machine, wanted),
        tracker(machine),
        sysctl(
            machine,
            "net.core.somaxconn",
            4_096,
            "Connections that arrive faster than they are accepted wait here; the rest is dropped, and clients try again after a second.",
        ),
        sysctl(
            machine,
            "net.ipv4.tcp_max_syn_backlog",
            4_096,
            "The same for connections in their handshake: after a deployment all clients connect at once.",
        ),
        idle(machine),
        ports(machine),
        governor(machine),
        clock(machine),
    ];
    let mut advice: Vec<Advice> = found.into_iter().flatten().collect();
    for card in &machine.cards {
        advice.extend(node(machine, wanted, card));
        advice.extend(queues(machine, wanted, card));
        advice.extend(interrupts(machine, wanted, card));
    }
    advice
}

fn ring(machine: &Machine) -> Option<Advice> {
    let disabled = machine.io_uring_disabled.filter(|disabled| *disabled > 0)?;
    Some(Advice {
        what: "kernel.io_uring_disabled".to_owned(),
        now: disabled.to_string(),
        better: "0".to_owned(),
        why: "Without io_uring the gateway uses epoll: it works, with more system calls for each request.",
        how: "sysctl -w kernel.io_uring_disabled=0".to_owned(),
    })
}

/// What `serve` starts with, and two for each client: its own and that of its backend.
fn descriptors(machine: &Machine, wanted: &Wanted) -> Option<Advice> {
    let start = serve::descriptors(wanted.shards, wanted.listeners);
    let needed = start + (wanted.shards * wanted.connections * 2) as u64;
    let now = machine.descriptors.filter(|now| *now < needed)?;
    Some(Advice {
        what: "open descriptors (hard limit)".to_owned(),
        now: now.to_string(),
        better: needed.next_power_of_two().to_string(),
        why: match now < start {
            true => "The gateway does not start with so few.",
            false => {
                "Each client needs one, and one more for its backend. At the limit new clients wait unaccepted, and backends \
                 cannot be connected to."
            }
        },
        how: format!("systemctl edit ringway   # [Service] LimitNOFILE={}", needed.next_power_of_two()),
    })
}

fn quota(machine: &Machine, wanted: &Wanted) -> Option<Advice> {
    let quota = machine.quota.filter(|quota| *quota < wanted.shards as f64)?;
    Some(Advice {
        what: "CPU quota of the control group".to_owned(),
        now: format!("{quota} cores"),
        better: format!("{} cores, or none", wanted.shards),
        why: "A process at its quota stands still for the rest of each period, up to 100 ms: every stream stalls.",
        how: String::new(),
    })
}

fn tracker(machine: &Machine) -> Option<Advice> {
    let (used, most) = machine.tracked.filter(|(used, most)| used * 2 > *most)?;
    Some(Advice {
        what: "net.netfilter.nf_conntrack_max".to_owned(),
        now: format!("{most}, {used} in use"),
        better: (most * 4).to_string(),
        why: "A full connection tracker drops packets of new connections. Better still, do not track the gateway's ports.",
        how: format!("sysctl -w net.netfilter.nf_conntrack_max={}", most * 4),
    })
}

fn sysctl(machine: &Machine, name: &'static str, least: u64, why: &'static str) -> Option<Advice> {
    let now = machine.sysctl.get(name)?.parse::<u64>().ok().filter(|now| *now < least)?;
    Some(Advice {
        what: name.to_owned(),
        now: now.to_string(),
        better: least.to_string(),
        why,
        how: format!("sysctl -w {name}={least}"),
    })
}

fn idle(machine: &Machine) -> Option<Advice> {
    let name = "net.ipv4.tcp_slow_start_after_idle";
    machine.sysctl.get(name).filter(|now| *now == "1")?;
    Some(Advice {
        what: name.to_owned(),
        now: "1".to_owned(),
        better: "0".to_owned(),
        why: "A kept backend connection that was idle starts slowly again: a long prompt takes several round trips more.",
        how: format!("sysctl -w {name}=0"),
    })
}

fn ports(machine: &Machine) -> Option<Advice> {
    let name = "net.ipv4.ip_local_port_range";
    let mut words = machine.sysctl.get(name)?.split_whitespace();
    let first = words.next()?.parse::<u64>().ok()?;
    let last = words.next()?.parse::<u64>().ok()?;
    if last.saturating_sub(first) >= 40_000 {
        return None;
    }
    Some(Advice {
        what: name.to_owned(),
        now: format!("{first} {last}"),
        better: "10240 65535".to_owned(),
        why: "Each connection to one backend's address needs a port of its own.",
        how: format!("sysctl -w {name}=\"10240 65535\""),
    })
}

fn governor(machine: &Machine) -> Option<Advice> {
    const SLOW: [&str; 4] = ["powersave", "ondemand", "conservative", "schedutil"];
    let now = machine.governor.clone().filter(|governor| SLOW.contains(&&**governor))?;
    Some(Advice {
        what: "frequency governor".to_owned(),
        now,
        better: "performance".to_owned(),
        why: "A shard that waits for backends looks idle; its core slows down, and each event takes longer.",
        how: "cpupower frequency-set -g performance".to_owned(),
    })
}

fn clock(machine: &Machine) -> Option<Advice> {
    const SLOW: [&str; 4] = ["hpet", "acpi_pm", "jiffies", "refined-jiffies"];
    let now = machine.clock.clone().filter(|clock| SLOW.contains(&&**clock))?;
    Some(Advice {
        what: "clock source".to_owned(),
        now,
        better: "tsc".to_owned(),
        why: "Reading this clock is a system call; each turn of a shard's loop reads it.",
        how: "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource".to_owned(),
    })
}

/// Shards on another node than the card's: every packet crosses the link between the nodes.
fn node(machine: &Machine, wanted: &Wanted, card: &Card) -> Option<Advice> {
    let own = machine.nodes.get(&card.node?).filter(|_| machine.nodes.len() > 1)?;
    let far: Vec<usize> = wanted.cores.iter().copied().filter(|core| !own.contains(core)).collect();
    let near: Vec<usize> = machine.physical.iter().copied().filter(|core| own.contains(core)).collect();
    if far.is_empty() || near.is_empty() {
        return None;
    }
    Some(Advice {
        what: format!("cores of the shards ({} is at NUMA node {})", card.name, card.node?),
        now: format!("{} of {} shards at other nodes", far.len(), wanted.cores.len()),
        better: format!("cores = \"{}\"", list(&near)),
        why: "Packets and buffers of a shard at another node cross the link between the nodes.",
        how: String::new(),
    })
}

fn queues(machine: &Machine, wanted: &Wanted, card: &Card) -> Option<Advice> {
    let least = wanted.shards.min(machine.physical.len());
    if card.queues == 0 || card.queues >= least || card.spread == card.queues {
        return None;
    }
    let most = mask(&machine.cores);
    Some(Advice {
        what: format!("receive queues of {}", card.name),
        now: card.queues.to_string(),
        better: least.to_string(),
        why: "All packets pass through the cores of its queues. Where the card has no more, the kernel can spread them.",
        how: format!(
            "ethtool -L {0} combined {least}   # or, if the card has no more:\nfor q in /sys/class/net/{0}/queues/rx-*; do echo {most} > $q/rps_cpus; done",
            card.name
        ),
    })
}

/// Several interrupts that may all go to one core only.
fn interrupts(machine: &Machine, wanted: &Wanted, card: &Card) -> Option<Advice> {
    let places: BTreeSet<&Vec<usize>> = card.interrupts.iter().collect();
    let is_crowded =
        card.interrupts.len() > 1 && places.len() == 1 && places.iter().all(|list| list.len() == 1);
    if !is_crowded || machine.cores.len() < 2 || card.queues < 2 {
        return None;
    }
    let how = match machine.has_irqbalance {
        true => "systemctl restart irqbalance".to_owned(),
        false => {
            format!("set_irq_affinity {} {}   # comes with the card's driver", list(&wanted.cores), card.name)
        }
    };
    Some(Advice {
        what: format!("interrupts of {}", card.name),
        now: format!("{} on core {}", card.interrupts.len(), places.first()?.first()?),
        better: "one for each core".to_owned(),
        why: "One core takes all interrupts of the card; the shard on it is slower than the others.",
        how,
    })
}

/// Cores as the kernel writes them: `0-3,8`.
fn list(cores: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &core in cores {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => runs.push((core, core)),
        }
    }
    let text = |&(first, last): &(usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

/// Cores as a mask in groups of 32 bits: `ff`, `1,00000000`.
fn mask(cores: &[usize]) -> String {
    let groups = cores.iter().max().map_or(1, |last| last / 32 + 1);
    let group = |index: usize| {
        cores.iter().filter(|core| **core / 32 == index).fold(0_u32, |bits, core| bits | 1 << (core % 32))
    };
    let mut text = format!("{:x}", group(groups - 1));
    for index in (0..groups - 1).rev() {
        text.push_str(&format!(",{:08x}", group(index)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_written_as_the_kernel_writes_them() {
        for (cores, text, bits) in [
            (&[0][..], "0", "1"),
            (&[0, 1, 2, 3, 8], "0-3,8", "10f"),
            (&[4, 6], "4,6", "50"),
            (&[31, 32, 33], "31-33", "3,80000000"),
        ] {
            assert_eq!((list(cores), mask(cores)), (text.to_owned(), bits.to_owned()));
        }
    }
}
