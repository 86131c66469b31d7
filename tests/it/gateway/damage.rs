//! Segments that a bad disk has changed: set aside, told of, and loaded once somebody has mended them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::loads::{Site, row};

/// The key of a segment, as its head has it: number and nonce.
fn key(segment: &[u8]) -> String {
    let number = u64::from_le_bytes(segment[8..16].try_into().expect("8 bytes"));
    let nonce = u128::from_le_bytes(segment[16..32].try_into().expect("16 bytes"));
    format!("{number:016x}-{nonce:032x}")
}

/// It was taken for one of those that its batch had loaded, and deleted.
#[test]
fn a_damaged_segment_is_set_aside_and_loaded_by_itself_once_it_is_mended() {
    let site = Site::new();
    site.warehouse.lock().expect("no panic").kill();
    for id in ["a", "b", "c"] {
        let gateway = site.gateway();
        assert_eq!(site.post("", &row(id)).expect("an answer").status, 200);
        gateway.signal("-TERM");
        assert!(gateway.end().success(), "{}", site.said());
    }
    let files = |kind: &str| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(site.context.path("spool")).expect("a folder").flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == kind));
        paths.sort();
        paths
    };
    let segments = files("seg");
    let bytes: Vec<Vec<u8>> = segments.iter().map(|path| std::fs::read(path).expect("readable")).collect();
    assert_eq!(bytes.len(), 3, "a segment a start");

    // As a kill leaves it that came after the decision, before the intent.
    let keys: Vec<String> = bytes.iter().map(|bytes| key(bytes)).collect();
    let folder = site.context.path("stage").join("inventory/gateway").join(&keys[0]);
    std::fs::create_dir_all(&folder).expect("made");
    let decided = serde_json::json!({ "segments": keys }).to_string();
    std::fs::write(folder.join("batch.json"), decided).expect("written");
    let mut damaged = bytes[1].clone();
    // Behind it comes a mark, of 24 bytes.
    let middle = damaged.len() - 34;
    damaged[middle] ^= 1;
    std::fs::write(&segments[1], damaged).expect("written");

    site.warehouse.lock().expect("no panic").restart(&site.context);
    let gateway = site.gateway();
    let once = |ids: &[&str]| ids.iter().map(|id| ((*id).to_owned(), 1)).collect::<BTreeMap<_, _>>();
    assert_eq!(site.wait_for(2), once(&["a", "c"]));
    assert_eq!(site.post("", &row("d")).expect("an answer").status, 200);
    assert_eq!(site.wait_for(3), once(&["a", "c", "d"]), "it serves on");
    gateway.signal("-TERM");
    assert!(gateway.end().success(), "{}", site.said());
    let aside = files("damaged");
    assert!(aside.len() == 1 && site.said().contains("set aside"), "{aside:?} {}", site.said());

    std::fs::write(&segments[1], &bytes[1]).expect("mended");
    std::fs::remove_file(&aside[0]).expect("removed");
    let _gateway = site.gateway();
    assert_eq!(site.wait_for(4), once(&["a", "b", "c", "d"]));
}
