//! The machine, as its kernel describes it in `/proc` and `/sys`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::config::cores;

/// What was found. A file that cannot be read leaves its member empty: nothing is concluded from it.
#[derive(Serialize, Default, Debug)]
pub(super) struct Machine {
    /// The kernel's release.
    pub(super) kernel: String,
    /// Cores that are online, and those of them that are the first thread of a physical core.
    pub(super) cores: Vec<usize>,
    pub(super) physical: Vec<usize>,
    /// Cores by NUMA node.
    pub(super) nodes: BTreeMap<usize, Vec<usize>>,
    /// `kernel.io_uring_disabled`: 0 for all, 1 for members of a group, 2 for nobody.
    pub(super) io_uring_disabled: Option<u64>,
    /// The hard limit on open descriptors.
    pub(super) descriptors: Option<u64>,
    /// Settings by their names, as the kernel writes them.
    pub(super) sysctl: BTreeMap<&'static str, String>,
    /// How core frequencies are chosen, if they can be.
    pub(super) governor: Option<String>,
    pub(super) clock: Option<String>,
    /// Entries of the connection tracker in use, and the most it holds.
    pub(super) tracked: Option<(u64, u64)>,
    /// Cores that the control group may use at once, if it has a quota.
    pub(super) quota: Option<f64>,
    pub(super) cards: Vec<Card>,
    /// The daemon that moves interrupts between cores runs.
    pub(super) has_irqbalance: bool,
}

/// A network card that is up.
#[derive(Serialize, Default, Debug)]
pub(super) struct Card {
    pub(super) name: String,
    /// Mbit/s.
    pub(super) speed: Option<u64>,
    pub(super) node: Option<usize>,
    /// Queues of received packets, and those whose packets are spread over cores in software.
    pub(super) queues: usize,
    pub(super) spread: usize,
    /// The cores that its interrupts may go to, one list for each interrupt.
    pub(super) interrupts: Vec<Vec<usize>>,
}

/// The settings that are read.
pub(super) const SYSCTLS: [&str; 5] = [
    "net.core.somaxconn",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.core.netdev_budget",
];

impl Machine {
    /// Reads the files below `root`, which is `/` but for tests.
    pub(super) fn read(root: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).ok().map(|text| text.trim().to_owned());
        let number = |path: &str| text(path)?.parse::<u64>().ok();
        let online = text("sys/devices/system/cpu/online").and_then(|list| cores::parse_list(&list));
        let cores = online.unwrap_or_default();
        let is_first = |core: &&usize| {
            let siblings = text(&format!("sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"));
            let first = siblings.and_then(|list| cores::parse_list(&list)?.into_iter().min());
            first.is_none_or(|first| first == **core)
        };
        let tracked = number("proc/sys/net/netfilter/nf_conntrack_count")
            .zip(number("proc/sys/net/netfilter/nf_conntrack_max"));
        Self {
            kernel: text("proc/sys/kernel/osrelease").unwrap_or_default(),
            physical: cores.iter().filter(is_first).copied().collect(),
            cores,
            nodes: nodes(root),
            io_uring_disabled: number("proc/sys/kernel/io_uring_disabled"),
            descriptors: text("proc/self/limits").and_then(|limits| descriptors(&limits)),
            sysctl: SYSCTLS
                .iter()
                .filter_map(|name| Some((*name, text(&format!("proc/sys/{}", name.replace('.', "/")))?)))
                .collect(),
            governor: text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            clock: text("sys/devices/system/clocksource/clocksource0/current_clocksource"),
            tracked,
            quota: text("sys/fs/cgroup/cpu.max").and_then(|line| quota(&line)),
            cards: cards(root),
            has_irqbalance: runs(root, "irqbalance"),
        }
    }

    /// The machine in a few lines.
    pub(super) fn lines(&self) -> Vec<String> {
        let threads = match self.physical.len() {
            0 => String::new(),
            physical if physical < self.cores.len() => format!(" ({physical} physical)"),
            _ => String::new(),
        };
        let nodes = match self.nodes.len() {
            0 | 1 => String::new(),
            count => format!(", {count} NUMA nodes"),
        };
        let ring = match self.io_uring_disabled {
            Some(2) => "io_uring is off",
            Some(1) => "io_uring is for some users only",
            _ => "io_uring is allowed",
        };
        let mut lines = vec![format!(
            "{:10}{} cores{threads}{nodes}, Linux {}, {ring}",
            "machine",
            self.cores.len(),
            self.kernel
        )];
        for card in &self.cards {
            let speed = card.speed.map_or(String::new(), |speed| format!(", {speed} Mbit/s"));
            let node = card.node.map_or(String::new(), |node| format!(", at NUMA node {node}"));
            lines.push(format!("{:10}{}: {} receive queues{speed}{node}", "network", card.name, card.queues));
        }
        lines
    }
}

fn nodes(root: &Path) -> BTreeMap<usize, Vec<usize>> {
    let entries = fs::read_dir(root.join("sys/devices/system/node")).into_iter().flatten().flatten();
    let node = |entry: fs::DirEntry| {
        let number = entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()?;
        let list = fs::read_to_string(entry.path().join("cpulist")).ok()?;
        Some((number, cores::parse_list(&list)?))
    };
    entries.filter_map(node).collect()
}

/// The hard limit in `/proc/self/limits`; `unlimited` counts as very many.
fn descriptors(limits: &str) -> Option<u64> {
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    let hard = line.split_whitespace().nth(4)?;
    if hard == "unlimited" { Some(u64::MAX) } else { hard.parse().ok() }
}

/// `cpu.max` of a control group: microseconds of a period, or `max`.
fn quota(line: &str) -> Option<f64> {
    let (most, period) = line.split_once(' ')?;
    let period: f64 = period.parse().ok().filter(|period| *period > 0.0)?;
    Some(most.parse::<f64>().ok()? / period)
}

/// Cards with a device behind them that are up, the fastest first.
fn cards(root: &Path) -> Vec<Card> {
    let folder = root.join("sys/class/net");
    let mut cards: Vec<Card> = fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| card(root, &entry.path()))
        .collect();
    cards.sort_by(|a, b| (b.speed, &a.name).cmp(&(a.speed, &b.name)));
    cards
}

fn card(root: &Path, path: &Path) -> Option<Card> {
    let text = |name: &str| fs::read_to_string(path.join(name)).ok().map(|text| text.trim().to_owned());
    if !path.join("device").exists() || text("operstate").as_deref() == Some("down") {
        return None;
    }
    let name = path.file_name()?.to_str()?.to_owned();
    let queues = || fs::read_dir(path.join("queues")).into_iter().flatten().flatten();
    let received = || queues().filter(|entry| entry.file_name().to_string_lossy().starts_with("rx-"));
    let is_spread = |entry: &fs::DirEntry| {
        let mask = fs::read_to_string(entry.path().join("rps_cpus")).unwrap_or_default();
        mask.chars().any(|digit| digit.is_ascii_hexdigit() && digit != '0')
    };
    Some(Card {
        speed: text("speed").and_then(|speed| speed.parse().ok()),
        node: text("device/numa_node").and_then(|node| node.parse().ok()),
        queues: received().count(),
        spread: received().filter(is_spread).count(),
        interrupts: interrupts(root, &name),
        name,
    })
}

/// Where the interrupts that carry a card's name may go.
fn interrupts(root: &Path, name: &str) -> Vec<Vec<usize>> {
    let table = fs::read_to_string(root.join("proc/interrupts")).unwrap_or_default();
    let of_card = |line: &&str| {
        line.rsplit(char::is_whitespace).next().is_some_and(|label| {
            label == name
                || label.strip_prefix(name).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
        })
    };
    let list = |line: &str| {
        let number = line.split_once(':')?.0.trim();
        let list = fs::read_to_string(root.join(format!("proc/irq/{number}/smp_affinity_list"))).ok()?;
        cores::parse_list(&list)
    };
    table.lines().filter(of_card).filter_map(list).collect()
}

/// Whether a process of that name runs.
fn runs(root: &Path, name: &str) -> bool {
    let processes = fs::read_dir(root.join("proc")).into_iter().flatten().flatten();
    processes
        .filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok())
        .any(|comm| comm.trim() == name)
}
