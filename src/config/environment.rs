//! What a configuration refers to outside of its file: variables, files, the machine. Passed in, so that tests
//! choose it and the compiler stays pure.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
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
    /// Makes a file that its owner alone can read, unless there is one already. Only a process that will serve does.
    fn keep(&self, path: &Path, text: &str) -> io::Result<()> {
        let _ = (path, text);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// 32 bytes that nobody can guess.
    fn random(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let filled = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
        assert!(filled.is_ok(), "the machine has no random numbers");
        bytes
    }
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

/// The environment of this process, with a note of every file that is asked for and of its state just before, and of what was
/// found.
#[derive(Default)]
pub struct Noting {
    files: RefCell<Vec<(PathBuf, Option<Stamp>)>>,
    recorded: RefCell<Recorded>,
}

impl Noting {
    /// The files that were asked for, in that order.
    pub fn files(&self) -> Vec<(PathBuf, Option<Stamp>)> {
        self.files.borrow().clone()
    }

    /// What was found.
    pub fn recorded(self) -> Recorded {
        self.recorded.into_inner()
    }
}

impl Environment for Noting {
    fn variable(&self, name: &str) -> Option<String> {
        let found = Process.variable(name);
        self.recorded.borrow_mut().variables.insert(name.to_owned(), found.clone());
        found
    }

    fn file(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        self.files.borrow_mut().push((path.to_owned(), Stamp::of(path)));
        let found = Process.file(path, bytes_max);
        if let Ok(bytes) = &found {
            self.recorded.borrow_mut().files.insert(path.to_owned(), bytes.clone());
        }
        found
    }

    /// Whole or not at all, and never over another's: two that start at once agree.
    fn keep(&self, path: &Path, text: &str) -> io::Result<()> {
        if path.exists() {
            return Ok(());
        }
        let draft = path.with_extension(format!("new-{}", std::process::id()));
        let mut options = std::fs::OpenOptions::new();
        let written = options.write(true).create_new(true).mode(0o600).open(&draft);
        let kept = written.and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::hard_link(&draft, path)
        });
        let _ = std::fs::remove_file(&draft);
        match kept {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            kept => kept,
        }
    }

    fn machine(&self) -> Machine {
        let machine = Process.machine();
        self.recorded.borrow_mut().machine = Some(machine.clone());
        machine
    }

    fn roots(&self) -> Vec<CertificateDer<'static>> {
        let roots = Process.roots();
        self.recorded.borrow_mut().roots.clone_from(&roots);
        roots
    }

    fn unix_seconds(&self) -> u64 {
        Process.unix_seconds()
    }
}

/// What a configuration found when it was read: the same again, so that a changed key is compiled with the same secrets and
/// certificates, whatever has become of their files. Only the time goes on.
#[derive(Clone, Default)]
pub struct Recorded {
    variables: HashMap<String, Option<String>>,
    files: HashMap<PathBuf, Vec<u8>>,
    machine: Option<Machine>,
    roots: Vec<CertificateDer<'static>>,
}

impl Environment for Recorded {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned().flatten()
    }

    fn file(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let found = self.files.get(path).filter(|bytes| bytes.len() <= bytes_max);
        found.cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn machine(&self) -> Machine {
        self.machine.clone().unwrap_or_else(|| Process.machine())
    }

    fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.roots.clone()
    }

    fn unix_seconds(&self) -> u64 {
        Process.unix_seconds()
    }
}

/// What tells one state of a file from another without reading it. Links are followed, so a link that is pointed to
/// another file is a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: i128,
}

impl Stamp {
    /// The state of a file now; `None` if it is not there.
    pub fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            modified_ns: i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec()),
        })
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

    #[test]
    fn files_are_noted_with_what_tells_their_states_apart() {
        let path = std::env::temp_dir().join(format!("ringway-noting-{}", std::process::id()));
        std::fs::write(&path, "one").unwrap();
        let noting = Noting::default();
        assert_eq!(noting.file(&path, 9).unwrap(), b"one");
        assert!(noting.file(Path::new("/nowhere"), 9).is_err());
        let files = noting.files();
        assert_eq!(files, [(path.clone(), Stamp::of(&path)), ("/nowhere".into(), None)]);
        std::fs::write(&path, "other").unwrap();
        assert_ne!(Stamp::of(&path), files[0].1);
        std::fs::remove_file(&path).unwrap();
    }
}
