//! Lets the step model run in real time and hands its tokens to the connections that wait for them.

use super::engine::{Engine, Job, JobId, Progress, Speed, TooLong};
use std::cell::{Ref, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// An engine in real time. One thread; shared by `Rc`.
#[derive(Debug)]
pub struct Ticker {
    engine: RefCell<Engine>,
    readers: RefCell<HashMap<JobId, mpsc::UnboundedSender<Progress>>>,
    wake: Notify,
}

/// A job in the engine. Dropping it before its last progress aborts it, as a server does when its client goes.
#[derive(Debug)]
pub struct Ticket {
    ticker: Rc<Ticker>,
    job: JobId,
    progress: mpsc::UnboundedReceiver<Progress>,
}

impl Ticker {
    /// An idle engine; nothing moves until [`Ticker::run`] does.
    pub fn new(speed: Speed) -> Rc<Self> {
        Rc::new(Self {
            engine: RefCell::new(Engine::new(speed)),
            readers: RefCell::default(),
            wake: Notify::new(),
        })
    }

    /// Queues a job.
    ///
    /// # Errors
    /// [`TooLong`] when it can never fit.
    pub fn submit(self: &Rc<Self>, job: Job) -> Result<Ticket, TooLong> {
        let job = self.engine.borrow_mut().add(job)?;
        let (sender, progress) = mpsc::unbounded_channel();
        self.readers.borrow_mut().insert(job, sender);
        self.wake.notify_one();
        Ok(Ticket { ticker: self.clone(), job, progress })
    }

    /// The engine, to read its state.
    pub fn engine(&self) -> Ref<'_, Engine> {
        self.engine.borrow()
    }

    /// Steps for ever. A step that is late does not delay the ones after it, within [`CATCH_UP_MAX`].
    pub async fn run(&self) {
        let mut due = Instant::now();
        loop {
            if self.engine.borrow().is_idle() {
                self.wake.notified().await;
                due = due.max(Instant::now());
                continue;
            }
            let step = self.engine.borrow_mut().step();
            due = (due + step.duration).max(Instant::now() - CATCH_UP_MAX);
            tokio::time::sleep_until(due).await;
            for progress in step.progress {
                self.deliver(progress);
            }
            tokio::task::yield_now().await;
        }
    }

    fn deliver(&self, progress: Progress) {
        let mut readers = self.readers.borrow_mut();
        if let Some(reader) = readers.get(&progress.job) {
            // A reader that is gone has aborted its job, or is about to.
            let _ = reader.send(progress);
        }
        if progress.last {
            readers.remove(&progress.job);
        }
    }
}

impl Ticket {
    /// The next progress; `None` after the last.
    pub async fn next(&mut self) -> Option<Progress> {
        self.progress.recv().await
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.ticker.readers.borrow_mut().remove(&self.job);
        self.ticker.engine.borrow_mut().abort(self.job);
    }
}

/// How far behind its own clock the engine may catch up without pauses, by taste.
const CATCH_UP_MAX: Duration = Duration::from_millis(100);
