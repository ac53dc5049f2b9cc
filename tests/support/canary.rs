//! Three ordinary clients of another tenant that run beside every table: each must always get its own answer (O4).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::client::Client;
use crate::gateway::{Gateway, K2};
use crate::{J, chat};

/// The running canaries.
pub struct Canaries {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

/// What the nonces of canaries start with.
pub const PREFIX: &str = "canary-";

impl Canaries {
    /// Three keep-alive clients, a nonce every 50 ms each.
    pub fn start(gateway: &Gateway) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicUsize::new(0));
        let threads = (0..3).map(|bird| {
            let (stop, count, port) = (Arc::clone(&stop), Arc::clone(&count), gateway.port);
            std::thread::spawn(move || sing(bird, port, &stop, &count))
        });
        Self { threads: threads.collect(), stop, count }
    }

    /// Lets them run for two more seconds, and takes their complaints.
    pub fn finish(self) -> Vec<String> {
        std::thread::sleep(Duration::from_secs(2));
        self.stop.store(true, Ordering::SeqCst);
        let mut complaints = Vec::new();
        for thread in self.threads {
            complaints.extend(thread.join().unwrap_or_else(|_| vec!["a canary died".to_owned()]));
        }
        if self.count.load(Ordering::SeqCst) == 0 {
            complaints.push("no canary was ever answered".to_owned());
        }
        complaints
    }
}

fn sing(bird: usize, port: u16, stop: &AtomicBool, count: &AtomicUsize) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut client = Client::connect(port);
    for song in 0_u64.. {
        if stop.load(Ordering::SeqCst) || complaints.len() > 10 {
            break;
        }
        let nonce = format!("{PREFIX}{bird}-{song}");
        client.send(&chat(K2, &nonce, J));
        match client.answer() {
            Ok(answer) if answer.status() == 200 && answer.text().contains(&format!("\"{nonce}\"")) => {
                count.fetch_add(1, Ordering::SeqCst);
            }
            other => {
                complaints.push(format!("canary {nonce} got {other:?}"));
                client = Client::connect(port);
            }
        }
        if !client.buffer.is_empty() {
            complaints.push(format!("canary {nonce} got more: {}", client.buffer.escape_ascii()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    complaints
}
