//! The process as the kernel sees it, from `/proc/self`.

use std::fs;

/// What dashboards expect under `process_*`; a number the kernel does not tell is `None`.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Process {
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) virtual_bytes: Option<u64>,
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) threads: Option<u64>,
    pub(crate) open_fds: Option<u64>,
    pub(crate) max_fds: Option<u64>,
}

/// Clock ticks per second in `/proc/PID/stat`: USER_HZ, 100 on every architecture we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads it. A few system calls, unless the kernel is older than 6.2: then open descriptors are counted one by one.
pub(crate) fn read() -> Process {
    let text = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    let status = text("status");
    Process {
        resident_bytes: kilobytes(&status, "VmRSS:"),
        virtual_bytes: kilobytes(&status, "VmSize:"),
        threads: field(&status, "Threads:").and_then(|count| count.parse().ok()),
        cpu_seconds: cpu_seconds(&text("stat")),
        open_fds: open_fds(),
        max_fds: max_fds(&text("limits")),
    }
}

/// Memory in use.
pub(crate) fn resident_bytes() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/self/status").unwrap_or_default(), "VmRSS:")
}

/// The memory that this process's control group may use (cgroup v2, `memory.max`), if that is bounded.
pub(crate) fn memory_max() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.max")).ok()?.trim().parse().ok()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// User and system time: the 14th and 15th field. The 2nd, the program's name, may hold blanks and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user.checked_add(system)? as f64 / TICKS_PER_SECOND)
}

/// The size of the folder is the count since Linux 6.2, and zero before.
fn open_fds() -> Option<u64> {
    let count = fs::metadata("/proc/self/fd").ok()?.len();
    if count > 0 { Some(count) } else { u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok() }
}

fn max_fds(limits: &str) -> Option<u64> {
    field(limits, "Max open files")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_threads_and_descriptors() {
        let process = read();
        assert!(process.resident_bytes.unwrap() > 100_000);
        assert!(process.virtual_bytes >= process.resident_bytes);
        assert!(process.threads.unwrap() >= 1);
        assert!(process.open_fds.unwrap() >= 3);
        assert!(process.max_fds.unwrap() >= process.open_fds.unwrap());
        assert!(process.cpu_seconds.unwrap() >= 0.0);
    }

    #[test]
    fn a_program_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1";
        assert_eq!(cpu_seconds(stat), Some(3.0));
    }

    #[test]
    fn unexpected_text_is_no_number() {
        for text in ["", ")", "7 (x) S 1", "7 (x) S 1 2 3 4 5 6 7 8 9 10 a b", "Max open files unlimited"] {
            assert_eq!(cpu_seconds(text), None, "{text}");
            assert_eq!(max_fds(text), None, "{text}");
            assert_eq!(kilobytes(text, "VmRSS:"), None, "{text}");
        }
        assert_eq!(kilobytes("VmRSS: 99999999999999999999 kB", "VmRSS:"), None);
    }
}
