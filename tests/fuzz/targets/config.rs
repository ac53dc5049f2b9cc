//! Configurations: any text becomes a plan that holds together, or problems that name lines of the text.

use std::io;
use std::path::Path;

use ringway::config::cores::Machine;
use ringway::config::{Compiled, Environment, Problems, compile, read};
use rustls::pki_types::CertificateDer;

/// Eight cores, one variable, one file.
struct Fake;

/// What no problem may show.
const SECRET: &str = "sk-very-secret-0123456789abcdef";

impl Environment for Fake {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "KEY").then(|| SECRET.to_owned())
    }
    fn file(&self, path: &Path, _: usize) -> io::Result<Vec<u8>> {
        match path.ends_with("secret") {
            true => Ok(format!("{SECRET}\n").into_bytes()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }
    fn machine(&self) -> Machine {
        Machine::plain(8)
    }
    fn roots(&self) -> Vec<CertificateDer<'static>> {
        Vec::new()
    }
    fn unix_seconds(&self) -> u64 {
        1_700_000_000
    }
}

fn load(text: &str) -> Result<Compiled, Problems> {
    compile(&read(Path::new("/etc/ringway/f.toml"), text)?, &Fake)
}

pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match load(&text) {
        Ok(compiled) => check_plan(&compiled),
        Err(problems) => {
            check_problems(&text, &problems);
            assert_eq!(load(&text).err(), Some(problems.clone()), "the same text, the same problems");
            // Lines in front move every line that is named, and nothing else.
            if !text.starts_with('\u{feff}') {
                let moved = load(&format!("#\n#\n{text}")).err().expect("still wrong");
                let lines = |problems: &Problems, by: usize| -> Vec<Option<usize>> {
                    problems.list.iter().map(|problem| problem.line.map(|line| line + by)).collect()
                };
                assert_eq!(lines(&moved, 0), lines(&problems, 2));
            }
        }
    }
}

fn check_problems(text: &str, problems: &Problems) {
    assert!(!problems.list.is_empty(), "a refusal says why");
    assert!(problems.list.is_sorted());
    let lines = text.bytes().filter(|&byte| byte == b'\n').count() + 1;
    for problem in &problems.list {
        assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{problem:?}");
        assert!(!problem.text.is_empty(), "{problem:?}");
        assert!(!problem.text.contains(SECRET), "{problem:?}");
    }
    let shown = problems.to_string();
    assert!(shown.starts_with("/etc/ringway/f.toml") && shown.lines().count() >= problems.list.len());
}

/// Every id names a row.
fn check_plan(compiled: &Compiled) {
    let plan = &compiled.plan;
    assert!(!plan.shards.is_empty() && !plan.listeners.is_empty());
    assert_eq!(plan.keys_required, !plan.keys.is_empty());
    for (name, id) in &plan.names {
        let model = plan.model(*id);
        assert!(model.name == *name || model.aliases.contains(name), "{name} names another model");
    }
    for (index, model) in plan.models.iter().enumerate() {
        assert_eq!(model.id.index(), index);
        assert!(!model.pool.is_empty(), "a model nobody serves");
        assert!(model.pool.iter().all(|member| member.backend.index() < plan.backends.len()));
        assert!(model.pool.iter().all(|member| member.weight >= 1));
        assert!(model.fallbacks.iter().all(|id| id.index() < plan.models.len() && *id != model.id));
    }
    for key in &plan.keys {
        assert_eq!(key.grant.models.len(), plan.models.len());
        // The digest of an issuer's row is no key's.
        let digest = key.credential.issuer.is_none().then_some(key.credential.digest);
        assert_eq!(
            plan.key_table.find(&key.credential.digest).map(|id| plan.key(id).credential.digest),
            digest
        );
    }
    assert!(compiled.notes.iter().all(|note| !note.contains(SECRET)));
}
