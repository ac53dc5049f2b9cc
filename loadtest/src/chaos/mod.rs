//! A TCP proxy that does to connections what networks, kernels and dying servers do.
//!
//! One thread and one event loop, whatever the number of connections; it knows bytes, FIN and RST, and no HTTP.
//! Walk of a connection: [`draw`](draw()) decides its faults from the seed and its number, two pipes pass bytes on and
//! strike, the relay brings the end of one to the other, and a [`Record`] says what was drawn and what came of it.
//!
//! Times are kept to about a millisecond. A RST from one side is passed on to the other as a RST, behind the bytes that
//! were read before it (a second at most, if the other takes none). Without faults, nothing else about a connection
//! changes either.

mod draw;
pub mod fault;
mod pipe;
mod relay;

pub use draw::{Direction, Strike, draw};
pub use relay::Ended;

use fault::Fault;
use pipe::Tally;
use relay::Case;
use serde::Serialize;
use socket2::{Domain, Socket, Type};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// What a proxy is to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Where it listens; port 0 asks the kernel for a free port.
    pub listen: SocketAddr,
    /// Where it dials, once for each connection.
    pub target: SocketAddr,
    /// What may happen to a connection.
    pub faults: Vec<Fault>,
    /// Fixes all chance.
    pub seed: u64,
    /// The number of the first connection; with the seed it fixes what a connection draws.
    pub first: u64,
}

impl Spec {
    /// A proxy on a free loopback port, with seed 1 and connections numbered from 1.
    pub fn new(target: SocketAddr, faults: Vec<Fault>) -> Self {
        Self { listen: ([127, 0, 0, 1], 0).into(), target, faults, seed: 1, first: 1 }
    }
}

/// One connection, once it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Its number, in the order of accepting.
    pub connection: u64,
    /// What it drew, in the form that [`Fault`] reads; it may have ended before all of it happened.
    pub faults: Vec<Strike>,
    /// From client to target.
    pub up: Bytes,
    /// From target to client.
    pub down: Bytes,
    /// How it ended.
    pub ended: Ended,
}

/// Bytes of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// Read from the sender.
    pub read: u64,
    /// Written to the receiver; those sent twice count twice.
    pub written: u64,
}

/// All connections of a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many ended, by how.
    pub ended: BTreeMap<Ended, u64>,
    /// From clients to the target.
    pub up: Bytes,
    /// From the target to clients.
    pub down: Bytes,
}

impl Summary {
    fn add(&mut self, record: &Record) {
        *self.ended.entry(record.ended).or_default() += 1;
        for (sum, bytes) in [(&mut self.up, record.up), (&mut self.down, record.down)] {
            sum.read += bytes.read;
            sum.written += bytes.written;
        }
    }
}

/// A proxy running on its own thread; dropping it stops it and closes its connections.
#[derive(Debug)]
pub struct Chaos {
    /// Where it listens, with the port the kernel chose.
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Summary>>,
}

impl Chaos {
    /// Starts a proxy; its port is open as soon as this returns, unless the first connection drew a refusal.
    ///
    /// `log` gets each connection's record when it ends, on the proxy's thread: it must not wait.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn start(spec: Spec, log: impl FnMut(Record) + Send + 'static) -> io::Result<Self> {
        let port = Port::hold(spec.listen)?;
        let address = port.address;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            let refused = draw::refusal(&draw(&spec.faults, spec.seed, spec.first)).is_some();
            if refused { None } else { Some(port.open()?) }
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("chaos".to_owned()).spawn(move || {
            let book = Rc::new(Book { log: RefCell::new(Box::new(log)), summary: RefCell::default() });
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async {
                tokio::select! {
                    () = serve(&spec, &port, listener, &book) => {}
                    _ = stopped => {}
                }
            });
            // Ends the connections that are open, so that they are in the books.
            drop(local);
            book.summary.take()
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Stops it, closes what is open and says what there was.
    pub fn stop(mut self) -> Summary {
        self.end()
    }

    fn end(&mut self) -> Summary {
        drop(self.stop.take());
        let summary = self.thread.take().map(JoinHandle::join);
        // A panic of that thread has printed itself.
        summary.and_then(Result::ok).unwrap_or_default()
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.end();
    }
}

/// Accepts connections until the task is dropped.
async fn serve(spec: &Spec, port: &Port, mut listener: Option<TcpListener>, book: &Rc<Book>) {
    let mut number = spec.first;
    loop {
        let strikes = draw(&spec.faults, spec.seed, number);
        if let Some(pause) = draw::refusal(&strikes) {
            drop(listener.take());
            let entry = Entry::new(book, number, strikes);
            tokio::time::sleep(pause).await;
            entry.ended.set(Ended::Refused);
        } else {
            let client = port.accept(&mut listener).await;
            let entry = Entry::new(book, number, strikes);
            let (target, seed) = (spec.target, spec.seed);
            tokio::task::spawn_local(async move { entry.run(client, target, seed).await });
        }
        number = number.wrapping_add(1);
    }
}

/// The port, held whether it is open or not: nobody else can take it meanwhile.
struct Port {
    address: SocketAddr,
    /// Bound and never listening.
    _held: Socket,
}

impl Port {
    fn hold(address: SocketAddr) -> io::Result<Self> {
        let held = bind(address)?;
        let address = held.local_addr()?.as_socket().unwrap_or(address);
        Ok(Self { address, _held: held })
    }

    fn open(&self) -> io::Result<TcpListener> {
        let socket = bind(self.address)?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    }

    /// The next connection; opens the port if it is closed.
    async fn accept(&self, listener: &mut Option<TcpListener>) -> TcpStream {
        loop {
            let accepted = match listener {
                Some(open) => open.accept().await.map(|(client, _)| client),
                None => match self.open() {
                    Ok(open) => {
                        *listener = Some(open);
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            match accepted {
                Ok(client) => return client,
                // Out of descriptors: wait for some to close rather than spin.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Where connections are written down.
struct Book {
    log: RefCell<Box<dyn FnMut(Record)>>,
    summary: RefCell<Summary>,
}

/// A connection under way; dropping it writes it down, exactly once.
struct Entry {
    book: Rc<Book>,
    number: u64,
    strikes: Vec<Strike>,
    up: Tally,
    down: Tally,
    ended: Cell<Ended>,
}

impl Entry {
    fn new(book: &Rc<Book>, number: u64, strikes: Vec<Strike>) -> Self {
        let ended = Cell::new(Ended::Stopped);
        Self { book: book.clone(), number, strikes, up: Tally::default(), down: Tally::default(), ended }
    }

    async fn run(&self, client: TcpStream, target: SocketAddr, seed: u64) {
        let case = Case {
            target,
            seed,
            number: self.number,
            strikes: &self.strikes,
            up: &self.up,
            down: &self.down,
        };
        self.ended.set(case.run(client).await);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let bytes = |tally: &Tally| Bytes { read: tally.read.get(), written: tally.written.get() };
        let record = Record {
            connection: self.number,
            faults: std::mem::take(&mut self.strikes),
            up: bytes(&self.up),
            down: bytes(&self.down),
            ended: self.ended.get(),
        };
        self.book.summary.borrow_mut().add(&record);
        (self.book.log.borrow_mut())(record);
    }
}

/// Connections waiting to be accepted; the kernel caps it at its own limit.
const BACKLOG: i32 = 8192;
