//! What a configuration refers to outside of its file: variables, files, the machine. Passed in, so that tests
//! choose it and the compiler stays pure.

use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;

use super::cores::{Core, Machine, parse_list};

/// Where the compiler asks.
pub trait Environment {
    /// A variable of the environment; `None` if it is not set or not UTF-8.
    fn variable(&self, name: &str) -> Option<String>;
    /// All bytes of a file of at most `bytes_max`.
    fn file(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>>;
    /// What the process may run on.
    fn machine(&self) -> Machine;
    /// The authorities this machine trusts; empty if it has none.
    fn roots(&self) -> Vec<CertificateDer<'static>>;
    /// Seconds since 1970.
    fn unix_seconds(&self) -> u64;
}

/// The environment of this process.
#[derive(Clone, Copy, Default, Debug)]
pub struct Process;

impl Environment for Process {
    fn variable(&self, name: &str) -> Option<String> {
        // `var` panics on names the platform cannot hold.
        let possible = !name.is_empty() && !name.contains(['=', '\0']);
        possible.then(|| std::env::var(name).ok()).flatten()
    }

    fn file(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > bytes_max {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("larger than {bytes_max} bytes"),
            ));
        }
        Ok(bytes)
    }

    /// From /proc and /sys (proc_pid_status(5), sysfs-devices-system-cpu). What cannot be read counts as a
    /// machine without hardware threads, on which the scheduler places everything.
    fn machine(&self) -> Machine {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let allowed =
            status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).and_then(parse_list);
        let parallel = std::thread::available_parallelism().map_or(1, usize::from);
        let Some(mut allowed) = allowed else {
            return Machine::plain(parallel);
        };
        allowed.sort_unstable();
        let physical = |number: usize| {
            let path = format!("/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list");
            let siblings = std::fs::read_to_string(path).ok().and_then(|text| parse_list(&text));
            siblings.and_then(|siblings| siblings.into_iter().min()).unwrap_or(number)
        };
        let cores: Vec<Core> =
            allowed.into_iter().map(|number| Core { number, physical: physical(number) }).collect();
        let quota = (parallel < cores.len()).then_some(parallel);
        Machine { cores, quota }
    }

    fn roots(&self) -> Vec<CertificateDer<'static>> {
        rustls_native_certs::load_native_certs().certs
    }

    fn unix_seconds(&self) -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_may_run_somewhere() {
        let machine = Process.machine();
        assert!(!machine.physical().is_empty());
        assert!(machine.cores.is_sorted_by_key(|core| core.number));
    }

    #[test]
    fn a_variable_with_an_impossible_name_is_not_set() {
        for name in ["", "A=B", "A\0"] {
            assert_eq!(Process.variable(name), None);
        }
    }

    #[test]
    fn a_file_beyond_its_bound_is_an_error() {
        let path = Path::new("/proc/self/status");
        assert_eq!(Process.file(path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(Process.file(path, 1 << 20).is_ok());
    }
}
