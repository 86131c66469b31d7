use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::*;

const DAY: u64 = 86_400;

fn flows(rows: u64, days: u32, duplicates: f64) -> Flows {
    Flows { rows, days, duplicates, seed: 7 }
}

fn bytes_of(flows: &Flows, after: u64, before: u64, body: Body) -> Vec<u8> {
    flows.chunks(after, before, None, body).flatten().collect()
}

fn text_of(flows: &Flows, after: u64, before: u64) -> String {
    String::from_utf8(bytes_of(flows, after, before, Body::Ndjson)).unwrap()
}

fn rows_of(flows: &Flows) -> Vec<Row> {
    let mut rows = Rows::new(Arc::new(flows.plan()), 0, u64::MAX);
    std::iter::from_fn(move || rows.next()).collect()
}

/// `time,duration,…` as in LANL's own files, without the counts at the end.
fn line_of(row: &Row) -> String {
    let flow = row.as_flow();
    let text = |bytes: &'static [u8]| std::str::from_utf8(bytes).unwrap();
    let (src, dst) = ((flow.src_comp, flow.src_port), (flow.dst_comp, flow.dst_port));
    format!("{},{},{},{},{}", flow.duration, text(src.0), text(src.1), text(dst.0), text(dst.1))
}

#[test]
fn windows_tile() {
    for flows in [flows(20_000, 3, 0.1), flows(50, 3, 0.5), flows(1, 1, 0.5), flows(0, 3, 0.1)] {
        let whole = text_of(&flows, 0, 3 * DAY);
        for cuts in [vec![1], vec![59, 60, 61], vec![DAY], vec![DAY - 1, DAY + 1, 2 * DAY], vec![5_011_300]] {
            let mut joined = String::new();
            let mut after = 0;
            for before in cuts.into_iter().chain([u64::MAX]) {
                let part = text_of(&flows, after, before);
                assert_eq!(part.lines().count() as u64, flows.count(after, before), "({after}, {before}]");
                joined += &part;
                after = before;
            }
            assert_eq!(joined, whole);
        }
        assert_eq!(whole.lines().count() as u64, flows.rows);
    }
}

#[test]
fn a_window_holds_its_own_times_and_the_first_second_is_1() {
    let flows = flows(20_000, 2, 0.1);
    for line in text_of(&flows, 40_000, 50_000).lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        assert!((40_001..=50_000).contains(&record["time"].as_u64().unwrap()), "{line}");
    }
    let first = &rows_of(&flows)[0];
    assert_eq!((first.id, first.time), (1, 1));
}

#[test]
fn the_same_four_values_give_the_same_bytes_and_another_seed_does_not() {
    let first = text_of(&flows(100, 3, 0.1), 0, u64::MAX);
    assert_eq!(first, text_of(&flows(100, 3, 0.1), 0, u64::MAX));
    assert_ne!(first, text_of(&Flows { seed: 8, ..flows(100, 3, 0.1) }, 0, u64::MAX));
}

#[test]
fn values_out_of_range_are_brought_into_it() {
    for flows in [flows(100, 0, f64::NAN), flows(100, u32::MAX, -1.0), flows(100, 1, 9.0)] {
        assert_eq!(text_of(&flows, 0, u64::MAX).lines().count(), 100);
    }
    assert_eq!(flows(u64::MAX, 37, 0.5).count(0, u64::MAX), ROWS_MAX);
}

#[test]
fn a_limit_takes_the_first_records() {
    let flows = flows(1000, 1, 0.1);
    let all = text_of(&flows, 0, DAY);
    for limit in [0, 1, 300, 999, 1000, 5000] {
        let some: Vec<u8> = flows.chunks(0, DAY, Some(limit), Body::Ndjson).flatten().collect();
        let lines: Vec<&str> = std::str::from_utf8(&some).unwrap().lines().collect();
        assert_eq!(lines, all.lines().take(limit as usize).collect::<Vec<_>>());
    }
}

#[test]
fn repeats_have_an_id_served_earlier_and_the_other_ids_rise_by_1() {
    for (rows, days, share) in [(200_000, 3, 0.02), (100_000, 2, 0.5), (3000, 30, 0.25), (40_000, 1, 0.0)] {
        let flows = flows(rows, days, share);
        let mut last_seen: HashMap<u64, Row> = HashMap::new();
        let (mut repeats, mut across_midnight, mut next_id, mut time) = (0u64, 0u64, 1, 1);
        for row in rows_of(&flows) {
            assert!(row.time >= time);
            time = row.time;
            match last_seen.get(&row.id) {
                Some(earlier) => {
                    repeats += 1;
                    assert!(earlier.time < row.time, "no id comes twice in one second: {row:?}");
                    across_midnight += u64::from((earlier.time - 1) / DAY < (row.time - 1) / DAY);
                    assert_eq!(earlier.sort_key()[1..], row.sort_key()[1..]);
                    assert_eq!(earlier.protocol, row.protocol);
                }
                None => {
                    assert_eq!(row.id, next_id);
                    next_id += 1;
                }
            }
            last_seen.insert(row.id, row);
        }
        assert!((repeats as f64 - share * rows as f64).abs() <= 1.0, "{repeats} of {rows}");
        if share > 0.0 {
            assert!(across_midnight * 100 > repeats, "{across_midnight} of {repeats} across midnight");
        }
    }
}

#[test]
fn rows_of_a_second_are_sorted_as_text() {
    let mut seconds: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for row in rows_of(&flows(400_000, 1, 0.1)) {
        seconds.entry(row.time).or_default().push(line_of(&row));
    }
    assert!(seconds.values().all(|lines| lines.is_sorted()));
    assert!(seconds.values().any(|lines| lines.len() > 10));
}

#[test]
fn days_are_filled_as_lanls_are() {
    let flows = flows(1_000_000, 58, 0.05);
    let days: Vec<u64> = (0..58).map(|day| flows.count(day * DAY, (day + 1) * DAY)).collect();
    for (day, rows) in days.iter().enumerate() {
        let is_gap = matches!(day, 24 | 25 | 30..=35 | 37..);
        assert_eq!(*rows == 0, is_gap, "day {day}: {rows}");
    }
    let early: u64 = days[..9].iter().sum();
    assert!((570_000..630_000).contains(&early), "{early}");
    assert_eq!(days.iter().sum::<u64>(), 1_000_000);
}

#[test]
fn fields_look_like_lanls() {
    let rows = rows_of(&flows(200_000, 3, 0.02));
    let share =
        |of: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| of(row)).count() as f64 / rows.len() as f64;
    let anonymous = |port: u16| WORLD.port_kinds[usize::from(port)] == PortKind::Anonymous;
    assert!((share(&|row| anonymous(row.src_port)) - 0.71).abs() < 0.01);
    assert!((share(&|row| anonymous(row.dst_port)) - 0.64).abs() < 0.01);
    assert!(share(&|row| row.protocol == 6) > 0.8);
    assert!(share(&|row| row.protocol == 17) > 0.03);
    assert!(share(&|row| row.protocol == 1) > 0.003);
    assert!(share(&|row| row.as_flow().duration == 0) > 0.6);
    assert!(rows.iter().all(|row| row.byte_count >= 46 * row.packet_count && row.packet_count > 0));
    let computers: HashSet<u16> = rows.iter().flat_map(|row| [row.src_comp, row.dst_comp]).collect();
    assert!((9_000..=10_100).contains(&computers.len()), "{}", computers.len());
    assert_eq!(WORLD.computers.len(), 10_100);
    assert!(WORLD.computers.iter().any(|name| name.as_bytes() == b"C17684"));
}

#[test]
fn xml_and_json_say_the_same() {
    let flows = flows(2000, 1, 0.1);
    let xml = String::from_utf8(bytes_of(&flows, 0, DAY, Body::Xml)).unwrap();
    let inner = xml
        .strip_prefix("<?xml version='1.0' encoding='UTF-8'?><records>")
        .and_then(|rest| rest.strip_suffix("</records>"))
        .unwrap();
    let json = text_of(&flows, 0, DAY);
    assert_eq!(inner.split('\n').count(), 2000);
    for (record, line) in inner.split('\n').zip(json.lines()) {
        let value: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
        let mut expected = String::from("<record>");
        for (name, value) in &value {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            expected += &format!("<{name}>{text}</{name}>");
        }
        assert_eq!(record, expected + "</record>");
    }
}

#[test]
fn chunks_are_about_64_kib() {
    let sizes: Vec<usize> =
        flows(10_000, 1, 0.1).chunks(0, DAY, None, Body::Xml).map(|chunk| chunk.len()).collect();
    let (_, full) = sizes.split_last().unwrap();
    assert!(full.iter().all(|size| (64 << 10..66 << 10).contains(size)), "{full:?}");
}
