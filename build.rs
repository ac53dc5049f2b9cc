//! Lists the dashboard's built files, if `scripts/dashboard` has built them, so that the program carries them. Never runs npm:
//! a build without Node, and without the network, works and serves the plain page.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The folder is always there, its content is not: a missing path would build the crate anew each time.
    println!("cargo:rerun-if-changed=dashboard/build");
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let folder = Path::new(&root).join("dashboard/build");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".gz"))
        .collect();
    names.sort();
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let mut list = String::from("const FILES: &[File] = &[\n");
    for name in &names {
        println!("cargo:rerun-if-changed=dashboard/build/{name}");
        // A copy: the dashboard may be built anew while the compiler runs.
        let copy = Path::new(&out).join(name);
        fs::copy(folder.join(name), &copy).expect("a built file can be copied");
        let plain = name.trim_end_matches(".gz");
        let _ = writeln!(list, "    File {{ name: {plain:?}, gzip: include_bytes!({copy:?}) }},");
    }
    list.push_str("];\n");
    fs::write(Path::new(&out).join("dashboard.rs"), list).expect("the build folder can be written to");
}
