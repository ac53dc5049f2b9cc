//! A Redis server of its own for one test: its own port, its own folder, nothing kept on the disk.

use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::gateway::free_port;
use crate::{PATIENCE, eventually};

/// A running `redis-server`, killed when dropped.
pub struct Redis {
    /// Where it listens.
    pub port: u16,
    folder: PathBuf,
    child: Option<Child>,
}

impl Redis {
    /// Starts one; `None`, and says so, on a machine without `redis-server`.
    pub fn start() -> Option<Self> {
        let found = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
        if found.is_err() {
            println!("skipped: there is no redis-server on this machine (apt-get install redis-server)");
            return None;
        }
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("ringway-redis-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let mut redis = Self { port, folder, child: None };
        redis.restart();
        Some(redis)
    }

    /// Starts it again, empty, once it was killed.
    pub fn restart(&mut self) {
        let mut command = Command::new("redis-server");
        command.args([
            "--bind",
            "127.0.0.1",
            "--port",
            &self.port.to_string(),
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        command
            .arg("--dir")
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.child = Some(command.spawn().expect("redis-server runs"));
        let is_up = || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
        assert!(eventually(PATIENCE, is_up), "redis-server does not listen");
    }

    /// Kills it: its data are lost.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it can be killed");
            let _ = child.wait();
        }
    }

    /// Sends a signal by its short name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        assert!(
            Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill runs").success()
        );
    }

    /// Runs one command, by its words in the inline form.
    pub fn command(&self, words: &str) {
        use std::io::{Read, Write};
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("it listens");
        stream.write_all(format!("{words}\r\n").as_bytes()).expect("it reads");
        let mut reply = [0; 512];
        let count = stream.read(&mut reply).expect("a reply");
        assert_eq!(reply[..count].first(), Some(&b'+'), "{}", String::from_utf8_lossy(&reply[..count]));
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
