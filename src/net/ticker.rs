//! The timer behind a shard's tick.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::stream::Socket;

/// A periodic timer as a descriptor. The runtime has no timers of its own: with them every turn of the loop would read
/// the clock twice and arm a kernel timer, about a microsecond per relayed event (`bench/compare`).
pub struct Ticker {
    timer: OwnedFd,
    readiness: Socket,
}

impl Ticker {
    /// Ticks every `period` from now on; must run inside the shard's runtime.
    ///
    /// Errors: out of descriptors.
    pub fn new(period: Duration) -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let every = Timespec { tv_sec: period.as_secs() as _, tv_nsec: period.subsec_nanos().into() };
        let spec = Itimerspec { it_interval: every, it_value: every };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec)?;
        let readiness = Socket::from_std(StdUnixStream::from(timer.try_clone()?))?;
        Ok(Self { timer, readiness })
    }

    /// Waits for the next tick; how many have passed since the last one that was waited for.
    pub async fn tick(&self) -> io::Result<u64> {
        self.readiness.readable(false).await?;
        let mut ticks = [0; 8];
        match rustix::io::read(&self.timer, &mut ticks) {
            Ok(_) => Ok(u64::from_ne_bytes(ticks)),
            Err(rustix::io::Errno::AGAIN) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}
