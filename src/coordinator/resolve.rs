//! Names of backends become addresses here, never on a shard: a resolver may take seconds. Of a backend behind a proxy the
//! proxy's name is asked for instead.
//!
//! All addresses of an answer are kept. A failed or empty answer changes nothing: the last good one stands. The
//! system's resolver is asked (hosts file, search list and name service included), which tells no time to live, so
//! names are asked for again at a fixed pace.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::aggregate::Watch;
use crate::plan::Plan;
use crate::units::BackendId;

/// Addresses kept of one answer. Taste: more than any name in use has.
pub const ADDRESSES_MAX: usize = 64;

/// Time between two questions for a name that has never had an answer.
const MISSING_PAUSE: Duration = Duration::from_secs(1);

/// The shortest time between two questions for a name, whatever the settings say.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// A name that had no answer in time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unresolved {
    /// The name.
    pub host: Box<str>,
    /// The backends that wait for it.
    pub backends: Vec<BackendId>,
    /// What the resolver said.
    pub reason: String,
}

/// Gives every backend without an address its first: literal ones at once, names within `patience`. Blocks; called
/// before shards serve by this plan. Backends of names in the result have no address yet and get one as soon as there is an answer.
pub fn initial(plan: &Plan, patience: Duration) -> Vec<Unresolved> {
    store_literals(plan);
    first_answers(plan, patience, lookup_blocking)
}

/// Keeps asking for every name of the plan, each in a task of its own.
pub(super) fn spawn(watch: &Arc<Watch>, duties: &mut JoinSet<()>) {
    for (host, backends) in names(&watch.plan) {
        let watch = watch.clone();
        duties.spawn(async move {
            loop {
                let every = Duration::from_nanos(watch.plan.resolve_every.0);
                tokio::time::sleep(pause(&watch.plan, &backends, every)).await;
                let answer = refresh(&watch.plan, &host, &backends, lookup).await;
                if answer.is_err() {
                    watch.resolve_failures.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
}

/// A name without any address yet is asked for every second: its backends wait for it.
fn pause(plan: &Plan, backends: &[BackendId], every: Duration) -> Duration {
    let missing = backends.iter().any(|id| plan.backends.row(*id).addresses.load().is_empty());
    if missing { every.min(MISSING_PAUSE) } else { every }.max(PAUSE_MIN)
}

/// Asks once, and stores what is new.
async fn refresh<F>(
    plan: &Plan,
    host: &str,
    backends: &[BackendId],
    lookup: impl FnOnce(Box<str>) -> F,
) -> io::Result<()>
where
    F: Future<Output = io::Result<Vec<SocketAddr>>>,
{
    let found = accept(lookup(host.into()).await)?;
    store(plan, backends, &found);
    Ok(())
}

/// Asks on a thread of the blocking pool; a slow resolver holds that thread and nothing else.
async fn lookup(host: Box<str>) -> io::Result<Vec<SocketAddr>> {
    tokio::net::lookup_host((&*host, 0)).await.map(|found| found.take(ADDRESSES_MAX).collect())
}

fn lookup_blocking(host: &str) -> io::Result<Vec<SocketAddr>> {
    (host, 0).to_socket_addrs().map(|found| found.take(ADDRESSES_MAX).collect())
}

/// An answer without an address is a failure.
fn accept(answer: io::Result<Vec<SocketAddr>>) -> io::Result<Vec<SocketAddr>> {
    let found = answer?;
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(found)
}

/// Stores the addresses with each backend's own port. An answer that only comes in another order changes nothing, so
/// that the order of preference a shard sees does not change with every answer of a rotating server.
fn store(plan: &Plan, backends: &[BackendId], found: &[SocketAddr]) {
    for id in backends {
        let backend = plan.backends.row(*id);
        let Some((_, port)) = backend.dialled() else {
            continue;
        };
        let mut fresh: Vec<SocketAddr> = Vec::with_capacity(found.len());
        for address in found {
            let mut address = *address;
            address.set_port(port);
            if !fresh.contains(&address) {
                fresh.push(address);
            }
        }
        let known = backend.addresses.load();
        let same = known.len() == fresh.len() && fresh.iter().all(|address| known.contains(address));
        if !same {
            backend.addresses.store(Arc::new(fresh));
        }
    }
}

/// The names of a plan that are dialled, each with the backends that are reached by it.
fn names(plan: &Plan) -> BTreeMap<Box<str>, Vec<BackendId>> {
    let mut names = BTreeMap::<Box<str>, Vec<BackendId>>::new();
    for backend in &plan.backends {
        if let Some((host, _)) = backend.dialled()
            && literal(host).is_none()
        {
            names.entry(host.into()).or_default().push(backend.id);
        }
    }
    names
}

/// The address a host already is, with or without the brackets of a URL.
fn literal(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

fn store_literals(plan: &Plan) {
    for backend in &plan.backends {
        if let Some((host, _)) = backend.dialled()
            && let Some(address) = literal(host)
        {
            store(plan, &[backend.id], &[SocketAddr::new(address, 0)]);
        }
    }
}

/// Asks for all names at once, one thread each, and leaves behind those that are too slow.
fn first_answers(
    plan: &Plan,
    patience: Duration,
    lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Clone + Send + 'static,
) -> Vec<Unresolved> {
    let mut waiting = names(plan);
    let unknown = |id: &BackendId| plan.backends.row(*id).addresses.load().is_empty();
    waiting.retain(|_, backends| backends.iter().any(unknown));
    let mut unresolved = Vec::new();
    let (answers, answered) = mpsc::channel();
    for host in waiting.keys().cloned() {
        let (lookup, answers) = (lookup.clone(), answers.clone());
        // A machine that refuses the thread leaves the name unanswered, like a resolver that does not answer.
        let _ = thread::Builder::new().name("resolve".to_owned()).spawn(move || {
            let answer = accept(lookup(&host));
            // Nobody listens any more if it took too long.
            let _ = answers.send((host, answer));
        });
    }
    drop(answers);
    let deadline = Instant::now() + patience;
    while !waiting.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok((host, answer)) = answered.recv_timeout(left) else {
            break;
        };
        let Some(backends) = waiting.remove(&host) else {
            continue;
        };
        match answer {
            Ok(found) => store(plan, &backends, &found),
            Err(error) => unresolved.push(Unresolved { host, backends, reason: error.to_string() }),
        }
    }
    let late = "no answer in time";
    unresolved.extend(waiting.into_iter().map(|(host, backends)| Unresolved {
        host,
        backends,
        reason: late.to_owned(),
    }));
    unresolved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::fixture;

    const HOST: &str = "gpu.example";

    fn addresses(plan: &Plan) -> Vec<String> {
        plan.backends[0].addresses.load().iter().map(ToString::to_string).collect()
    }

    fn answer(addresses: &[&str]) -> io::Result<Vec<SocketAddr>> {
        Ok(addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect())
    }

    async fn ask(plan: &Plan, answer: io::Result<Vec<SocketAddr>>) -> io::Result<()> {
        refresh(plan, HOST, &[BackendId::new(0)], |_| async { answer }).await
    }

    #[test]
    fn literal_addresses_are_there_at_once() {
        for (host, expected) in
            [("192.0.2.1", "192.0.2.1:8000"), ("::1", "[::1]:8000"), ("[2001:db8::1]", "[2001:db8::1]:8000")]
        {
            let plan = fixture::plan(&[fixture::tcp(host, 8000)]);
            assert_eq!(initial(&plan, Duration::ZERO), []);
            assert_eq!(addresses(&plan), [expected]);
        }
    }

    #[test]
    fn what_is_not_quite_an_address_is_a_name() {
        for host in ["192.0.2", "192.0.2.1.", "[::1", "::1]", "localhost", "", "1.2.3.4:80"] {
            assert_eq!(literal(host), None, "{host}");
        }
    }

    #[test]
    fn one_slow_name_does_not_hold_up_the_others() {
        let plan = fixture::plan(&[fixture::tcp("slow.example", 1), fixture::tcp("fast.example", 2)]);
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        let unresolved = first_answers(&plan, Duration::from_millis(200), move |host| {
            if host == "slow.example" {
                let _ = held.lock().unwrap().recv();
            }
            answer(&["192.0.2.9"])
        });
        assert_eq!(unresolved.len(), 1);
        assert_eq!(
            (&*unresolved[0].host, unresolved[0].reason.as_str()),
            ("slow.example", "no answer in time")
        );
        assert!(plan.backends[0].addresses.load().is_empty());
        assert_eq!(plan.backends[1].addresses.load()[0].to_string(), "192.0.2.9:2");
        drop(release);
    }

    #[test]
    fn a_failed_first_answer_is_told_with_its_backends() {
        let plan = fixture::plan(&[fixture::tcp(HOST, 1), fixture::tcp(HOST, 2)]);
        let unresolved = first_answers(&plan, Duration::from_secs(5), |_| Err(io::Error::other("scripted")));
        assert_eq!(unresolved.len(), 1);
        assert_eq!(unresolved[0].backends, [BackendId::new(0), BackendId::new(1)]);
        assert_eq!(unresolved[0].reason, "scripted");
    }

    #[tokio::test]
    async fn the_last_good_answer_is_kept() {
        let plan = fixture::plan(&[fixture::tcp(HOST, 8000)]);
        ask(&plan, answer(&["192.0.2.1", "192.0.2.2", "192.0.2.1"])).await.unwrap();
        assert_eq!(addresses(&plan), ["192.0.2.1:8000", "192.0.2.2:8000"]);
        ask(&plan, Err(io::Error::other("no such name"))).await.unwrap_err();
        ask(&plan, answer(&[])).await.unwrap_err();
        assert_eq!(addresses(&plan), ["192.0.2.1:8000", "192.0.2.2:8000"]);
        ask(&plan, answer(&["192.0.2.3"])).await.unwrap();
        assert_eq!(addresses(&plan), ["192.0.2.3:8000"]);
    }

    #[tokio::test]
    async fn a_name_that_never_had_an_answer_is_asked_for_sooner() {
        let plan = fixture::plan(&[fixture::tcp(HOST, 8000)]);
        let every = Duration::from_secs(30);
        assert_eq!(pause(&plan, &[BackendId::new(0)], every), MISSING_PAUSE);
        assert_eq!(pause(&plan, &[BackendId::new(0)], Duration::ZERO), PAUSE_MIN);
        ask(&plan, answer(&["192.0.2.1"])).await.unwrap();
        assert_eq!(pause(&plan, &[BackendId::new(0)], every), every);
    }

    #[tokio::test]
    async fn an_answer_in_another_order_changes_nothing() {
        let plan = fixture::plan(&[fixture::tcp(HOST, 8000)]);
        ask(&plan, answer(&["192.0.2.1", "192.0.2.2"])).await.unwrap();
        let before = plan.backends[0].addresses.load_full();
        ask(&plan, answer(&["192.0.2.2", "192.0.2.1"])).await.unwrap();
        assert!(Arc::ptr_eq(&before, &plan.backends[0].addresses.load_full()));
    }
}
