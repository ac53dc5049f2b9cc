//! The gateway under test: the built binary with a configuration of its own, on ports of its own.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

pub use crate::config::{Config, K1, K2};
use crate::{PATIENCE, client, eventually};

/// How to run the binary.
#[derive(Clone, Copy)]
pub enum Wrapper {
    /// As it is.
    Plain,
    /// With at most this many open files.
    OpenFiles(u32),
    /// With io_uring_setup refused by this error, from this call on (strace).
    RingRefused(&'static str, u32),
    /// Under what the systemd unit allows it (`sandbox.py`).
    Sandboxed,
}

/// The program that confines what follows it as the unit of the second does.
pub const SANDBOX: [&str; 3] = [
    "python3",
    concat!(env!("CARGO_MANIFEST_DIR"), "/sandbox.py"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/ringway.service"),
];

/// A running gateway, killed when dropped.
pub struct Gateway {
    /// Where clients connect.
    pub port: u16,
    /// Where the operator connects.
    pub admin: u16,
    child: Child,
    pid: u32,
    folder: PathBuf,
    said: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
    /// Set by tests that make the gateway panic on purpose.
    pub panics_expected: bool,
    /// Set once a test has stopped the gateway by itself.
    stopped: bool,
    /// Processes that took its place, all of which end with the test.
    followed: Vec<u32>,
}

impl Gateway {
    /// Starts it and waits until it is ready.
    pub fn start(config: &Config) -> Self {
        Self::start_in(config, Wrapper::Plain)
    }

    /// As [`Gateway::start`], with something around the binary.
    pub fn start_in(config: &Config, wrapper: Wrapper) -> Self {
        let mut said = String::new();
        for _ in 0..3 {
            match Self::try_start(config, wrapper) {
                Ok(gateway) => return gateway,
                Err(words) => said = words,
            }
            // Another test may have taken a port between our look and the gateway's bind; nothing else is tried again.
            if !said.to_lowercase().contains("in use") {
                break;
            }
        }
        panic!("the gateway did not start:\n{said}");
    }

    /// Starts it once; what it said if it ended instead.
    pub fn try_start(config: &Config, wrapper: Wrapper) -> Result<Self, String> {
        let (port, admin) = (free_port(), free_port());
        let folder = std::env::temp_dir().join(format!("ringway-test-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let file = folder.join("ringway.toml");
        std::fs::write(&file, config.text(port, admin)).expect("a configuration file");
        for (name, text) in &config.files {
            std::fs::write(folder.join(name), text).expect("a file beside it");
        }
        let binary = &crate::binary();
        let mut command = match wrapper {
            Wrapper::Plain => Command::new(binary),
            Wrapper::OpenFiles(count) => {
                let mut command = Command::new("prlimit");
                command.arg(format!("--nofile={count}:{count}")).arg(binary);
                command
            }
            Wrapper::RingRefused(error, from) => {
                let mut command = Command::new("strace");
                command.args(["-f", "-o", "/dev/null", "-e", "trace=io_uring_setup", "-e"]);
                command.arg(format!("inject=io_uring_setup:error={error}:when={from}+")).arg(binary);
                command
            }
            Wrapper::Sandboxed => {
                let mut command = Command::new(SANDBOX[0]);
                command.args(&SANDBOX[1..]).arg(binary);
                command
            }
        };
        command.arg("serve").arg("--config").arg(&file);
        command.envs(config.variables());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let said = Arc::new(Mutex::new(Vec::new()));
        let readers = vec![
            listen_to(child.stdout.take().expect("stdout"), Arc::clone(&said)),
            listen_to(child.stderr.take().expect("stderr"), Arc::clone(&said)),
        ];
        let pid = child.id();
        let mut gateway = Self {
            port,
            admin,
            child,
            pid,
            folder,
            said,
            readers,
            panics_expected: false,
            stopped: false,
            followed: Vec::new(),
        };
        // Its own word first: somebody else may answer on the port that it cannot have.
        let ready = eventually(Duration::from_secs(30), || {
            gateway.ended().is_some()
                || gateway.said().contains("  admin ")
                    && gateway.ask_admin("/readyz").is_some_and(|answer| answer.0 == 200)
        });
        if gateway.ended().is_some() || !ready {
            gateway.stopped = true;
            if gateway.ended().is_some() {
                gateway.hear_out();
            }
            return Err(format!("{}\n--- with\n{}", gateway.said(), config.text(port, admin)));
        }
        if let Wrapper::RingRefused(..) = wrapper {
            gateway.pid = child_of(gateway.pid).unwrap_or(gateway.pid);
        }
        Ok(gateway)
    }

    /// Waits for its last words: those of a process that has ended may still be in the pipe.
    fn hear_out(&mut self) {
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }

    /// Everything it has written to stdout and stderr.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().expect("not poisoned")).into_owned()
    }

    /// A client connection.
    pub fn connect(&self) -> client::Client {
        client::Client::connect(self.port)
    }

    /// Writes another configuration in the place of the one it was started with, whole or nothing.
    pub fn rewrite(&self, config: &Config) {
        self.rewrite_text(&config.text(self.port, self.admin));
        for (name, text) in &config.files {
            std::fs::write(self.folder.join(name), text).expect("a file beside it");
        }
    }

    /// Writes any text there.
    pub fn rewrite_text(&self, text: &str) {
        let new = self.folder.join("ringway.toml.new");
        std::fs::write(&new, text).expect("a configuration file");
        std::fs::rename(&new, self.folder.join("ringway.toml")).expect("in its place");
    }

    /// Runs a command of the binary on its file: exit status, and what it says.
    pub fn command(&self, name: &str) -> (Option<i32>, String) {
        let mut command = Command::new(crate::binary());
        command.arg(name).arg("--config").arg(self.folder.join("ringway.toml")).stdin(Stdio::null());
        let output = command.output().expect("the binary runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Takes up what its file says now; what it answers.
    pub fn reload(&self) -> (u16, String) {
        self.to_admin("POST", "/reload").expect("an answer")
    }

    /// The folder of its configuration.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// GET on the admin listener: status and body, `None` if it cannot be reached.
    pub fn ask_admin(&self, path: &str) -> Option<(u16, String)> {
        self.to_admin("GET", path)
    }

    /// A request without a body to the admin listener: status and body, `None` if it cannot be reached.
    pub fn to_admin(&self, method: &str, path: &str) -> Option<(u16, String)> {
        self.send_admin(method, path, "").map(|message| (message.status(), message.text()))
    }

    /// Any request to the admin listener, with more header lines; `None` if it gives no whole answer.
    pub fn send_admin(&self, method: &str, path: &str, lines: &str) -> Option<crate::strict::Message> {
        self.write_admin(method, path, lines, "")
    }

    /// The same with a body.
    pub fn write_admin(
        &self,
        method: &str,
        path: &str,
        lines: &str,
        body: &str,
    ) -> Option<crate::strict::Message> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.admin));
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\nConnection: close\r\n{lines}\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        match crate::strict::answer(&answer, false, true).ok()? {
            crate::strict::Step::Done(message, _) => Some(message),
            _ => None,
        }
    }

    /// The sum of all samples of a metric whose labels hold `part`, 0 if there are none.
    pub fn metric(&self, name: &str, part: &str) -> f64 {
        sum(&self.ask_admin("/metrics").expect("metrics").1, name, part)
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count)
    }

    /// The TCP ports on which it listens.
    pub fn listens_on(&self) -> BTreeSet<u16> {
        let sockets = self.sockets("tcp").into_iter().chain(self.sockets("tcp6"));
        let listening = sockets.filter(|fields| fields[3] == "0A");
        let port = |fields: Vec<String>| u16::from_str_radix(fields[1].rsplit(':').next()?, 16).ok();
        listening.filter_map(port).collect()
    }

    /// How many sockets of a kind it has: tcp, tcp6, udp, udp6.
    pub fn sockets_of(&self, kind: &str) -> usize {
        self.sockets(kind).len()
    }

    /// Its own rows of a table of the kernel's sockets (proc_pid_net(5)), field by field.
    fn sockets(&self, kind: &str) -> Vec<Vec<String>> {
        let folder = std::fs::read_dir(format!("/proc/{}/fd", self.pid)).expect("its descriptors");
        let links = folder.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        let own: BTreeSet<String> = links.map(|link| link.to_string_lossy().into_owned()).collect();
        let table =
            std::fs::read_to_string(format!("/proc/{}/net/{kind}", self.pid)).expect("the kernel's table");
        let rows = table.lines().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect());
        rows.filter(|fields: &Vec<String>| own.contains(&format!("socket:[{}]", fields[9]))).collect()
    }

    /// Threads.
    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.pid)).map_or(0, Iterator::count)
    }

    /// Resident memory in bytes, program text aside.
    pub fn resident(&self) -> usize {
        self.memory("RssAnon:")
    }

    /// All resident memory in bytes.
    pub fn resident_all(&self) -> usize {
        self.memory("VmRSS:")
    }

    fn memory(&self, field: &str) -> usize {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
        kib.unwrap_or(0) * 1024
    }

    /// CPU time spent so far, user and system.
    pub fn cpu(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let after = text.rsplit(')').next().unwrap_or("");
        let ticks = after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    /// The value of a line of its status (proc_pid_status(5)).
    pub fn status_line(&self, name: &str) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    }

    /// Sends a signal by its short name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid.to_string()).status();
        assert!(status.expect("kill runs").success(), "kill -{name} {}", self.pid);
    }

    /// The process that serves.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Another process serves in the place of the one that was started.
    pub fn follow(&mut self, pid: u32) {
        self.pid = pid;
        self.followed.push(pid);
        self.stopped = true; // the first one may end by itself from now on
    }

    /// Whether the process that was started has ended, as it should.
    pub fn first_has_ended(&mut self) -> bool {
        self.ended().is_some_and(|status| status.code() == Some(0))
    }

    /// How it ended, `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child can be asked")
    }

    /// Waits for the end after a signal.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        eventually(patience, || self.ended().is_some());
        self.stopped = self.ended().is_some();
        self.ended()
    }

    /// O1: alive, and no panic said.
    pub fn check_alive(&mut self) {
        assert!(self.ended().is_none(), "the gateway ended:\n{}", self.said());
        assert!(self.panics_expected || !self.said().contains("panicked"), "a panic:\n{}", self.said());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let ended = self.child.try_wait().ok().flatten();
        if self.pid != self.child.id() {
            // Below a tracer: the gateway itself, not only the tracer.
            let _ = Command::new("kill").arg("-KILL").arg(self.pid.to_string()).status();
        }
        for pid in &self.followed {
            let _ = Command::new("kill").arg("-KILL").arg(pid.to_string()).stderr(Stdio::null()).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.hear_out();
        let _ = std::fs::remove_dir_all(&self.folder);
        let said = self.said();
        if std::thread::panicking() {
            let tail: Vec<&str> = said.lines().rev().take(30).collect();
            let state = ended.map_or("runs".to_owned(), |status| format!("ended, {status}"));
            eprintln!("--- the gateway {state}; its last words, newest first\n{}", tail.join("\n"));
            return;
        }
        assert!(self.stopped || ended.is_none(), "the gateway ended by itself ({ended:?}):\n{said}");
        assert!(self.panics_expected || !said.contains("panicked"), "a panic:\n{said}");
    }
}

/// The sum of all samples of a metric on a page whose labels hold `part`, 0 if there are none.
pub fn sum(page: &str, name: &str, part: &str) -> f64 {
    let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(part));
    let own = lines.filter(|line| matches!(line.as_bytes().get(name.len()), Some(b'{' | b' ')));
    own.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Collects what a pipe says, at most 16 MiB.
fn listen_to(mut pipe: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut block = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut block) {
            let mut said = into.lock().expect("not poisoned");
            if said.len() < 16 << 20 {
                said.extend_from_slice(&block[..count]);
            }
        }
    })
}

fn child_of(parent: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// A port nobody listens on. Below the ephemeral range, so that no outgoing connection takes it in the meantime.
/// A name in the kernel keeps it ours as long as this process lives: two gateways could both listen on one port, each
/// with a share of the other's clients.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static KEPT: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let base = 20_000 + (std::process::id() % 1_000) as u16 * 12;
    for _ in 0..2_000 {
        let port = 20_000 + (base - 20_000 + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let name = UnixAddr::from_abstract_name(format!("ringway-test-{port}")).expect("a short name");
        if let Ok(ours) = UnixListener::bind_addr(&name)
            && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        {
            KEPT.lock().expect("not poisoned").push(ours);
            return port;
        }
    }
    panic!("no free port");
}
