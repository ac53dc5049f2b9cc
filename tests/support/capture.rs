//! What reached the origins, kept for parsers that are not ours: `tests/clients/forwarded.*` read it again and compare.
//!
//! With `RINGWAY_TEST_CAPTURE=DIR`, every request of a new kind leaves two files: `NAME.raw` with its bytes, and
//! `NAME.json` with what the strict reader made of them. Requests of one kind differ in nonce and id only.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Mutex;

use serde_json::json;

use crate::strict::Message;

/// Kinds that one test program has already kept.
static KINDS: Mutex<Option<HashSet<u64>>> = Mutex::new(None);
/// Bodies beyond this are copies of the smaller ones' framing.
const RAW_MAX: usize = 1 << 20;

/// Keeps a request, if somebody wants it and has nothing like it yet.
pub fn keep(request: &Message, raw: &[u8]) {
    let Some(folder) = std::env::var_os("RINGWAY_TEST_CAPTURE").filter(|folder| !folder.is_empty()) else {
        return;
    };
    let kind = kind(request);
    let fresh = KINDS.lock().expect("not poisoned").get_or_insert_default().insert(kind);
    if raw.len() <= RAW_MAX && fresh {
        write(Path::new(&folder), kind, request, raw);
    }
}

fn kind(request: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    request.start.hash(&mut hasher);
    for (name, value) in &request.fields {
        let lower = name.to_ascii_lowercase();
        let own = ["x-nonce", "x-request-id", "host"].contains(&lower.as_str());
        (name, if own { &b""[..] } else { value }).hash(&mut hasher);
    }
    request.body.hash(&mut hasher);
    hasher.finish()
}

fn write(folder: &Path, kind: u64, request: &Message, raw: &[u8]) {
    // As Latin-1, so that every byte of a value has one character.
    let text = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
    let fields: Vec<_> = request.fields.iter().map(|(name, value)| json!([name, text(value)])).collect();
    let method = request.start.split(' ').next().unwrap_or_default();
    let digest = ring::digest::digest(&ring::digest::SHA256, &request.body);
    let sha256: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let read = json!({
        "method": method,
        "target": request.target(),
        "fields": fields,
        "body_bytes": request.body.len(),
        "body_sha256": sha256,
    });
    let name = folder.join(format!("{}-{kind:016x}", std::process::id()));
    std::fs::write(name.with_extension("raw"), raw).expect("the folder takes what is captured");
    std::fs::write(name.with_extension("json"), read.to_string()).expect("the folder takes what is captured");
}
