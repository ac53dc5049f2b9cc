//! The configuration of a world: three backends, two models, three keys, and limits that the seed draws.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;

use super::Chance;
use crate::config::cores::Machine;
use crate::config::{Environment, compile, read};
use crate::plan::Plan;

struct Nowhere;

impl Environment for Nowhere {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }
    fn file(&self, _: &Path, _: usize) -> std::io::Result<Vec<u8>> {
        Err(std::io::ErrorKind::NotFound.into())
    }
    fn machine(&self) -> Machine {
        Machine::plain(2)
    }
    fn roots(&self) -> Vec<CertificateDer<'static>> {
        Vec::new()
    }
    fn unix_seconds(&self) -> u64 {
        0
    }
}

pub(super) fn plan(chance: &mut Chance) -> Plan {
    let mut text = format!(
        "[limits]\nattempts = {}\nqueue = {}\n[timeouts]\nfirst_token = \"3s\"\nconnect = \"1s\"\nbody = \"20s\"\ntotal = \"20s\"\n\
         between_events = \"2s\"\nqueue_timeout = \"2s\"\nretry_wait = \"{}s\"\n",
        chance.within(1, 5),
        chance.within(1, 4),
        chance.within(0, 3),
    );
    for name in ["a", "b", "c"] {
        let most = chance.within(1, 4);
        text += &format!("[backend.{name}]\nurl = \"http://127.0.0.1:1\"\nin_flight_max = {most}\n");
    }
    let fallback = if chance.once_in(4) { "fallbacks = [\"n\"]\n" } else { "" };
    text +=
        &format!("[model.m]\nbackends = [\"a\", \"b\", \"c\"]\n{fallback}[model.n]\nbackends = [\"c\"]\n");
    let key = |digit: char| String::from(digit).repeat(64);
    let (rate, burst) = (chance.within(20, 120), chance.within(2, 6));
    text += &format!("[key.k0]\nsha256 = \"{}\"\n", key('0'));
    text += &format!(
        "[key.k1]\nsha256 = \"{}\"\nrequests_per_minute = {rate}\nrequests_burst = {burst}\n",
        key('1')
    );
    text += &format!(
        "[key.k2]\nsha256 = \"{}\"\ntokens_per_minute = 60000\ntokens_burst = 6000\nin_flight_max = 2\n",
        key('2')
    );
    let written = read(&PathBuf::from("/simulation.toml"), &text).unwrap_or_else(|bad| panic!("{bad}"));
    compile(&written, &Nowhere).unwrap_or_else(|bad| panic!("{bad}")).plan
}
