//! Machines as folders.

use std::fs;
use std::path::PathBuf;

use super::*;

/// A folder with the files of a machine.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let folder = std::env::temp_dir().join(format!("ringway-tune-{name}-{}", std::process::id()));
        for (path, text) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    fn advice(&self) -> Vec<Advice> {
        let machine = Machine::read(&self.0);
        advice::of(&machine, &Wanted::usual(&machine))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const CORES: (&str, &str) = ("sys/devices/system/cpu/online", "0-3\n");

fn changes(name: &str, files: &[(&str, &str)]) -> Vec<String> {
    let folder = Folder::new(name, &[&[CORES], files].concat());
    folder
        .advice()
        .into_iter()
        .map(|advice| format!("{}: {} -> {}", advice.what, advice.now, advice.better))
        .collect()
}

#[test]
fn a_machine_that_says_nothing_gets_no_advice() {
    assert!(Folder::new("empty", &[("proc/version", "")]).advice().is_empty());
}

#[test]
fn each_setting_is_judged_by_itself() {
    let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                  Max open files            1024                 4096                 files\n";
    for (name, path, bad, good, expected) in [
        ("ring", "proc/sys/kernel/io_uring_disabled", "2\n", "0\n", "kernel.io_uring_disabled: 2 -> 0"),
        (
            "files",
            "proc/self/limits",
            limits,
            "Max open files 1024 1048576 files",
            "open descriptors (hard limit): 4096 -> 262144",
        ),
        ("accept", "proc/sys/net/core/somaxconn", "128\n", "4096\n", "net.core.somaxconn: 128 -> 4096"),
        (
            "slow",
            "proc/sys/net/ipv4/tcp_slow_start_after_idle",
            "1\n",
            "0\n",
            "net.ipv4.tcp_slow_start_after_idle: 1 -> 0",
        ),
        (
            "ports",
            "proc/sys/net/ipv4/ip_local_port_range",
            "32768\t60999\n",
            "10240\t65535\n",
            "net.ipv4.ip_local_port_range: 32768 60999 -> 10240 65535",
        ),
        (
            "speed",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
            "powersave\n",
            "performance\n",
            "frequency governor: powersave -> performance",
        ),
        (
            "clock",
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "hpet\n",
            "tsc\n",
            "clock source: hpet -> tsc",
        ),
        (
            "quota",
            "sys/fs/cgroup/cpu.max",
            "150000 100000\n",
            "max 100000\n",
            "CPU quota of the control group: 1.5 cores -> 4 cores, or none",
        ),
    ] {
        assert_eq!(changes(name, &[(path, bad)]), [expected]);
        assert_eq!(changes(name, &[(path, good)]), [""; 0], "{name}");
        assert_eq!(changes(name, &[(path, "what?")]), [""; 0].map(str::to_owned), "{name}");
    }
}

#[test]
fn a_full_connection_tracker_is_seen_before_it_is_full() {
    let files = |count: &'static str| {
        [
            ("proc/sys/net/netfilter/nf_conntrack_count", count),
            ("proc/sys/net/netfilter/nf_conntrack_max", "1000"),
        ]
    };
    assert_eq!(
        changes("tracked", &files("501")),
        ["net.netfilter.nf_conntrack_max: 1000, 501 in use -> 4000"]
    );
    assert_eq!(changes("tracked", &files("500")), [""; 0]);
}

/// Four cores on two nodes, a card at the second with one queue, and all of its interrupts on core 0.
const CARD: [(&str, &str); 14] = [
    ("sys/devices/system/node/node0/cpulist", "0-1\n"),
    ("sys/devices/system/node/node1/cpulist", "2-3\n"),
    ("sys/class/net/lo/operstate", "unknown\n"),
    ("sys/class/net/eth0/operstate", "up\n"),
    ("sys/class/net/eth0/speed", "100000\n"),
    ("sys/class/net/eth0/device/numa_node", "1\n"),
    ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n"),
    ("sys/class/net/eth0/queues/rx-1/rps_cpus", "00000000,00000000\n"),
    ("sys/class/net/eth0/queues/tx-0/xps_cpus", "0\n"),
    (
        "proc/interrupts",
        "  24:  1  0  IR-PCI-MSI 1-edge  eth0-rx-0\n  25:  1  0  IR-PCI-MSI 2-edge  eth0-rx-1\n  26: 1 0 x eth01\n",
    ),
    ("proc/irq/24/smp_affinity_list", "0\n"),
    ("proc/irq/25/smp_affinity_list", "0\n"),
    ("proc/irq/26/smp_affinity_list", "3\n"),
    ("proc/7/comm", "irqbalance\n"),
];

#[test]
fn a_card_is_judged_by_its_node_its_queues_and_its_interrupts() {
    assert_eq!(
        changes("card", &CARD),
        [
            "cores of the shards (eth0 is at NUMA node 1): 2 of 4 shards at other nodes -> cores = \"2-3\"",
            "receive queues of eth0: 2 -> 4",
            "interrupts of eth0: 2 on core 0 -> one for each core",
        ]
    );
    let folder = Folder::new("told", &[&[CORES], &CARD[..]].concat());
    let advice = folder.advice();
    assert!(advice[1].how.contains("echo f > "), "{advice:?}");
    assert_eq!(advice[2].how, "systemctl restart irqbalance");
    let machine = Machine::read(&folder.0);
    let page = page(&machine, &Wanted::usual(&machine), &advice);
    for line in [
        "machine   4 cores, 2 NUMA nodes",
        "network   eth0: 2 receive queues, 100000 Mbit/s",
        "3 changes",
        "   $ ethtool",
    ] {
        assert!(page.contains(line), "{page}");
    }
}

#[test]
fn a_card_that_is_spread_over_cores_or_down_is_left_alone() {
    let mut files = CARD.to_vec();
    for (path, text) in &mut files {
        match *path {
            "sys/class/net/eth0/queues/rx-0/rps_cpus" | "sys/class/net/eth0/queues/rx-1/rps_cpus" => {
                *text = "f\n"
            }
            "sys/class/net/eth0/device/numa_node" => *text = "-1\n",
            "proc/irq/25/smp_affinity_list" => *text = "1\n",
            _ => {}
        }
    }
    assert_eq!(changes("spread", &files), [""; 0]);
    let down: Vec<_> =
        CARD.iter().map(|&(path, text)| (path, if text == "up\n" { "down\n" } else { text })).collect();
    assert_eq!(changes("down", &down), [""; 0]);
}

#[test]
fn this_machine_can_be_read() {
    let machine = Machine::read(Path::new("/"));
    assert!(!machine.cores.is_empty() && !machine.kernel.is_empty(), "{machine:?}");
    assert!(page(&machine, &Wanted::usual(&machine), &[]).ends_with("Nothing to change."));
}

/// The machine of `f_36_too_few_descriptors_to_start_with_are_told`.
#[test]
fn fewer_descriptors_than_serve_starts_with_are_said_to_be_too_few() {
    for (limit, part) in [("64", "does not start"), ("1024", "new clients wait")] {
        let text = format!("Max open files {limit} {limit} files");
        let folder = Folder::new(&format!("start-{limit}"), &[CORES, ("proc/self/limits", &text)]);
        let advice = folder.advice();
        assert!(advice[0].why.contains(part), "{advice:?}");
    }
}
