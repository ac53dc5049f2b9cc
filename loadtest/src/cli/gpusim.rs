//! `loadtest gpusim`.

use super::{Interrupt, say};
use loadtest::address::Address;
use loadtest::{gpusim, instant};
use std::net::SocketAddr;

/// Options of `loadtest gpusim`.
#[derive(Debug, clap::Args)]
pub(crate) struct Gpusim {
    /// Where to listen: IP:PORT or unix:PATH.
    #[arg(long, default_value = "127.0.0.1:8000")]
    listen: Address,
    /// Simulate this many servers, on consecutive ports, each with its own engine and seed.
    #[arg(long, default_value_t = 1)]
    servers: u16,
    /// Answer at once from prebuilt bytes, to measure a proxy; the step model, faults and quirks are off.
    #[arg(long)]
    instant: bool,
    #[command(flatten, next_help_heading = "Step model")]
    options: gpusim::Options,
    #[command(flatten, next_help_heading = "With --instant")]
    instant_options: instant::Options,
}

impl Gpusim {
    /// Runs until it is interrupted.
    pub(crate) fn run(self) -> Result<(), Box<dyn std::error::Error>> {
        let interrupt = Interrupt::watch()?;
        if self.instant {
            let model = &self.options.models[0];
            let server = instant::start(&self.listen, model, &self.instant_options);
            let server = server.map_err(|error| format!("{}: {error}", self.listen))?;
            say(&format!("instant gpusim listens on {}", server.address));
            interrupt.wait();
            return Ok(());
        }
        let mut running = Vec::new();
        for index in 0..self.servers.max(1) {
            let address = nth(&self.listen, index)?;
            let mut options = self.options.clone();
            options.seed = options.seed.wrapping_add(u64::from(index));
            let server = gpusim::start(&address, options).map_err(|error| format!("{address}: {error}"))?;
            say(&format!("gpusim listens on {}", server.address));
            running.push(server);
        }
        interrupt.wait();
        Ok(())
    }
}

fn nth(address: &Address, index: u16) -> Result<Address, String> {
    match address {
        Address::Tcp(tcp) if tcp.port() != 0 => {
            let port = tcp.port().checked_add(index).ok_or("the ports end before the servers do")?;
            Ok(Address::Tcp(SocketAddr::new(tcp.ip(), port)))
        }
        Address::Unix(path) if index > 0 => {
            let mut path = path.clone().into_os_string();
            path.push(format!(".{index}"));
            Ok(Address::Unix(path.into()))
        }
        address => Ok(address.clone()),
    }
}
