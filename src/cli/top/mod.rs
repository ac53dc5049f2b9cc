//! `ringway top`: the first screen of the dashboard in a terminal, over the admin API.

mod view;

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::Value;

use self::view::View;
use super::{ask, complain, print};

/// What to look at, and how.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The gateway's configuration file, for its admin address [default: ./ringway.toml, then /etc/ringway/ringway.toml]
    #[arg(value_name = "FILE", conflicts_with = "admin")]
    file: Option<PathBuf>,
    /// The admin address of the gateway instead, for example 127.0.0.1:9090
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Print one screen of text and end
    #[arg(long)]
    once: bool,
    /// Print the numbers as one JSON object and end
    #[arg(long)]
    json: bool,
}

/// Time between two readings.
const PAUSE: Duration = Duration::from_secs(2);

/// The longest time between two looks at the keyboard, and so the most often that the screen is drawn.
const FRAME: Duration = Duration::from_millis(250);

/// The screen of `--once` where there is no terminal to ask.
const SIZE: (u16, u16) = (80, 24);

/// Failures shown.
const FAILURES: &str = "/api/v1/requests?status=failed&limit=50";

/// Exit status 1 if the gateway cannot be reached or refuses.
pub(super) fn command(arguments: Arguments) -> ExitCode {
    let admin = match arguments.admin.map_or_else(|| ask::admin_of(arguments.file), Ok) {
        Ok(admin) => admin,
        Err(problem) => return complain(&problem),
    };
    if arguments.json {
        return match read(admin) {
            Ok(numbers) => print(&numbers.to_string()),
            Err(problem) => complain(&problem),
        };
    }
    if arguments.once || !io::stdout().is_terminal() {
        let (width, height) = match ratatui::crossterm::terminal::size() {
            Ok((width, height)) if io::stdout().is_terminal() => (width.max(40), height.max(10)),
            _ => SIZE,
        };
        let mut view = View::new(admin.to_string());
        view.take(read(admin));
        let failed = view.problem().map(str::to_owned);
        return match failed {
            Some(problem) => complain(&problem),
            None => print(view.text(width, height).trim_end()),
        };
    }
    match watch(admin) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("ringway: the terminal: {error}")),
    }
}

/// One reading: the overview, with the newest failures under `failures`.
fn read(admin: SocketAddr) -> Result<Value, String> {
    let mut overview = ask::json(admin, "/api/v1/overview")?;
    let failures = ask::json(admin, FAILURES)?;
    overview["failures"] = failures["requests"].clone();
    Ok(overview)
}

/// Draws until it is told to end: by `q`, Ctrl-C, SIGTERM or SIGHUP. The terminal is put back, after a panic too.
fn watch(admin: SocketAddr) -> io::Result<()> {
    let ends = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, ends.clone())?;
    }
    let readings = readings(admin);
    let mut terminal = ratatui::try_init()?;
    let mut view = View::new(admin.to_string());
    let ended = loop {
        match readings.try_recv() {
            Ok(reading) if !view.is_paused() => view.take(reading),
            Ok(_) | Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => break Ok(()),
        }
        if let Err(error) = terminal.draw(|frame| view.draw(frame)) {
            break Err(error);
        }
        match key() {
            Ok(Some(key)) if view.press(key) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
        if ends.load(Ordering::Relaxed) {
            break Ok(());
        }
    };
    ratatui::restore();
    ended
}

/// The gateway is asked on a thread of its own, so that the keyboard never waits for it.
fn readings(admin: SocketAddr) -> Receiver<Result<Value, String>> {
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        while sender.send(read(admin)).is_ok() {
            thread::sleep(PAUSE);
        }
    });
    receiver
}

/// A key that is pressed within one frame.
fn key() -> io::Result<Option<KeyCode>> {
    if !event::poll(FRAME)? {
        return Ok(None);
    }
    Ok(match event::read()? {
        Event::Key(KeyEvent { code: KeyCode::Char('c'), modifiers, .. })
            if modifiers.contains(KeyModifiers::CONTROL) =>
        {
            Some(KeyCode::Char('q'))
        }
        Event::Key(KeyEvent { code, kind: KeyEventKind::Press, .. }) => Some(code),
        _ => None,
    })
}
