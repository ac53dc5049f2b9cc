//! Limits and budgets that several gateways share, over Redis.
//!
//! Every gateway has its share of each limit, takes from it by itself, and moves what it does not need to those that run short. Redis
//! is the place where an amount changes hands: one script (`turn.lua`), run by each gateway every `TURN`. Nothing on a shard waits
//! for it, and nothing that is lost on the way can be used by anybody: what one gateway gives up is taken from its cells first.
//!
//! Invariant, as long as Redis keeps its data: of a budget, what all gateways may use is never more than the budget. If Redis loses
//! its data, or cannot be reached, every gateway goes on with what it has; what is missing is found again once all gateways have said
//! what they have. After `LEASE` without Redis a gateway cuts itself down to its share, or to nothing.

#[cfg(feature = "redis")]
mod link;
#[cfg(feature = "redis")]
mod rows;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::aggregate::Current;
use super::lock;
use crate::clock;
use crate::config::SharedSettings;
use crate::plan::Plan;

/// How it goes with the sharing of limits. Shared by everybody who shows it.
pub struct Shared {
    /// Where, and among how many.
    pub settings: SharedSettings,
    /// What this gateway is called in Redis. It survives the process where there is a folder to keep it in.
    pub name: String,
    numbers: Numbers,
}

#[derive(Default)]
struct Numbers {
    is_up: AtomicBool,
    is_alone: AtomicBool,
    gateways: AtomicU64,
    turns: AtomicU64,
    failures: AtomicU64,
    received: AtomicU64,
    given: AtomicU64,
    short: AtomicU64,
    turn_us: AtomicU64,
    error: Mutex<Option<String>>,
}

/// The numbers at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SharedStatus {
    /// Whether Redis took the last turn.
    pub is_up: bool,
    /// Whether Redis has been away for so long that leases have ended.
    pub is_alone: bool,
    /// Gateways that take turns, this one included.
    pub gateways: u64,
    /// Turns taken.
    pub turns: u64,
    /// Turns and connections that failed.
    pub failures: u64,
    /// Times that something was received from other gateways.
    pub received: u64,
    /// Times that something was given to them.
    pub given: u64,
    /// Turns in which a limit had run short here.
    pub short: u64,
    /// How long the last turn took, microseconds.
    pub turn_us: u64,
    /// Why Redis cannot be reached; `None` while it can.
    pub error: Option<String>,
}

impl Shared {
    /// With the folder in which the gateway keeps its things, if it has one.
    pub fn new(settings: SharedSettings, folder: Option<&Path>) -> Self {
        Self { settings, name: name(folder), numbers: Numbers::default() }
    }

    /// The numbers now.
    pub fn status(&self) -> SharedStatus {
        let numbers = &self.numbers;
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        SharedStatus {
            is_up: numbers.is_up.load(Ordering::Relaxed),
            is_alone: numbers.is_alone.load(Ordering::Relaxed),
            gateways: read(&numbers.gateways),
            turns: read(&numbers.turns),
            failures: read(&numbers.failures),
            received: read(&numbers.received),
            given: read(&numbers.given),
            short: read(&numbers.short),
            turn_us: read(&numbers.turn_us),
            error: lock(&numbers.error).clone(),
        }
    }
}

/// Gives each shared limit the share that a gateway begins with. Before the first request.
pub fn begin(plan: &Plan) {
    plan.begin_shares(clock::now());
}

/// Takes turns for as long as the process runs; nothing with limits that are not shared.
pub(super) fn spawn(current: &Current) {
    #[cfg(feature = "redis")]
    if let Some(shared) = current.load().settings.shared.clone() {
        tokio::spawn(link::run(current.clone(), shared));
    }
    #[cfg(not(feature = "redis"))]
    let _ = current;
}

/// The name kept in the folder; a new one if there is none.
fn name(folder: Option<&Path>) -> String {
    let path = folder.map(|folder| folder.join("gateway-name"));
    let is_name = |name: &String| name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let kept = path.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    if let Some(name) = kept.map(|name| name.trim().to_owned()).filter(is_name) {
        return name;
    }
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
    let name = format!("{random:016x}");
    if let Some(path) = path {
        let _ = std::fs::write(path, &name); // without it the next process has another one
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_keeps_its_name_in_its_folder() {
        let folder = std::env::temp_dir().join(format!("ringway-name-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let first = name(Some(&folder));
        assert_eq!(name(Some(&folder)), first);
        assert_ne!(name(None), first);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
