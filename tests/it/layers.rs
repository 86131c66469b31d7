//! The layers that `lib.rs` lists: imports run one way, and each outside dependency has one door.

use std::collections::BTreeMap;
use std::fs::{read_dir, read_to_string};
use std::path::{Path, PathBuf};

/// By the first word of a section's comment in `lib.rs`: the sections that its modules may import.
const LAYERS: [(&str, &[&str]); 8] = [
    ("Words", &["Words"]),
    ("Tools", &["Words", "Tools"]),
    ("Stages", &["Words", "Tools"]),
    ("The", &["Words", "Tools"]), // the client of the warehouse
    ("Flows", &["Words", "Tools", "Stages", "The", "Flows"]),
    ("Stand-ins", &[]),
    ("Surfaces", &["Words", "Tools", "Stages", "The", "Flows"]),
    ("What", &["Words", "Tools", "Stages", "The", "Flows", "Stand-ins", "Surfaces"]), // what the user sees
];

/// Stand-ins share no code with what they are there to test; of the stages only `load` talks to the client.
const ALSO: [(&str, &[&str]); 3] = [
    ("load", &["bigquery"]),
    ("demo", &["error", "engine", "serve", "location"]),
    ("emulator", &["error", "engine", "serve", "location"]),
];

const DOORS: [(&str, &[&str]); 17] = [
    ("reqwest", &["source/http.rs", "bigquery/", "gateway/client.rs"]),
    ("encoding_rs", &["decode/encoding.rs"]),
    ("object_store", &["stage/", "engine/", "emulator/"]),
    ("gcp_bigquery_client", &["bigquery/"]),
    ("yup_oauth2", &["bigquery/"]),
    ("axum", &["serve/", "demo/", "emulator/", "gateway/"]),
    ("tokio_rustls", &["serve/"]),
    ("rustls_pki_types", &["serve/"]),
    ("hdrhistogram", &["gateway/load_test/"]),
    ("argon2", &["gateway/"]),
    ("prometheus_client", &["gateway/"]),
    ("clap", &["cli/"]),
    ("rustyline", &["cli/sql/shell/"]),
    ("plotters", &["render/chart/"]),
    ("png", &["render/chart/"]),
    ("epaint_default_fonts", &["render/chart/"]),
    // The parser alone, which finds the tables of a query.
    ("datafusion", &["engine/", "transform.rs", "emulator/", "query/as_of.rs"]),
];

#[test]
fn imports_run_one_way_and_dependencies_have_one_door() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sections = sections(&read_to_string(src.join("lib.rs")).expect("lib.rs is there"));
    let mut wrong = Vec::new();
    let mut num_imports = 0;
    for file in rust_files(&src) {
        let name = file.strip_prefix(&src).expect("it is in src").display().to_string();
        let from = name.split(['/', '.']).next().expect("a split has a first part").to_owned();
        let depth = name.trim_end_matches("/mod.rs").matches('/').count();
        let text = read_to_string(&file).expect("it is readable");
        for path in code(&text).split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':') {
            let mut parts = path.trim_start_matches(':').split("::");
            let (first, second) = (parts.next().unwrap_or_default(), parts.next());
            let Some(second) = second else { continue };
            let doors = DOORS.iter().find(|(dependency, _)| *dependency == first).map(|(_, doors)| doors);
            if doors.is_some_and(|doors| !doors.iter().any(|door| name.starts_with(door))) {
                wrong.push(format!("{name}: `{first}` has its doors elsewhere"));
            }
            let is_root =
                first == "crate" || (first == "super" && depth == 0 && sections.contains_key(second));
            if second == "super" || (first == "crate" && !sections.contains_key(second)) {
                wrong.push(format!("{name}: `{path}` names no module; write `crate::module`, one a line"));
            } else if is_root && second != from && !["lib", "main"].contains(&from.as_str()) {
                num_imports += 1;
                if !may(&sections, &from, second) {
                    wrong.push(format!("{name}: `{from}` must not import `{second}`"));
                }
            }
        }
    }
    assert!(num_imports > 100, "only {num_imports} imports found: the test no longer reads the code");
    assert!(wrong.is_empty(), "{}\nsee the layers in src/lib.rs", wrong.join("\n"));
}

fn may(sections: &BTreeMap<String, String>, from: &str, to: &str) -> bool {
    let listed = LAYERS.iter().find(|(section, _)| *section == sections[from]);
    let (_, sections_below) = listed.unwrap_or_else(|| panic!("no rule for the section of `{from}`"));
    let also = ALSO.iter().any(|(module, others)| *module == from && others.contains(&to));
    also || sections_below.contains(&sections[to].as_str())
}

/// The section of each module, as `lib.rs` lists them.
fn sections(lib: &str) -> BTreeMap<String, String> {
    let mut section = String::new();
    let mut sections = BTreeMap::new();
    for line in lib.lines() {
        if let Some(comment) = line.strip_prefix("// ") {
            section = comment.split([' ', ':']).next().unwrap_or_default().trim_end_matches(',').to_owned();
        } else if let Some(module) = line.strip_prefix("pub mod ") {
            sections.insert(module.trim_end_matches(';').to_owned(), section.clone());
        }
    }
    sections
}

/// Without comments, and without the tests at the end. URLs in strings are no comments.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let is_comment = |line: &str, at: usize| !line[..at].ends_with([':', '/']);
    let code = |line: &str| match line.match_indices("//").find(|(at, _)| is_comment(line, *at)) {
        Some((at, _)) => line[..at].to_owned(),
        None => line.to_owned(),
    };
    text.lines().map(code).collect::<Vec<_>>().join("\n")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in read_dir(folder).expect("a folder") {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
    files
}
