use super::*;

fn flows(set: &[&str]) -> Result<Pipeline> {
    Pipeline::resolve("flows", &set.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
}

fn refusal(set: &[&str]) -> String {
    let error = flows(set).expect_err("refused");
    assert_eq!(error.kind(), crate::error::Kind::Usage);
    format!("{error} | {}", error.hint_text().unwrap_or_default())
}

#[test]
fn the_built_in_pipeline_resolves_with_origins() {
    let pipeline = flows(&["stage.url=/tmp/s", "source.query.limit=10"]).expect("resolves");
    assert_eq!(pipeline.columns.len(), 10);
    assert_eq!(pipeline.stage.url, "file:///tmp/s");
    assert_eq!(pipeline.source.query["limit"].as_str(), Some("10"));
    let origin = |key: &str| {
        let found = pipeline.settings().iter().find(|s| s.key == key);
        found.map(|s| s.origin.to_string()).unwrap_or_default()
    };
    assert_eq!(origin("stage.url"), "--set");
    assert_eq!(origin("limits.depth_max"), "default");
    assert_eq!(origin("time.epoch"), "flows/pipeline.toml (built in)");
}

#[test]
fn wrong_keys_and_values_are_named_with_the_next_step() {
    assert_eq!(refusal(&["stage.ulr=x"]), "unknown key `stage.ulr` | did you mean `stage.url`?");
    assert!(refusal(&["limits.memory_mib=lots"]).starts_with("`limits.memory_mib` must be a whole number"));
    assert!(refusal(&["nonsense"]).contains("is no `key=value`"));
    assert!(refusal(&["source.format=yaml"]).contains("auto, xml, ndjson, json, csv"));
    assert!(refusal(&["time.epoch=2011-02-30"]).contains("is no date"));
    assert!(refusal(&["time.column=src_comp"]).contains("REQUIRED INT64"));
    assert!(refusal(&["warehouse.table=a/../b"]).contains("is no table name"));
    assert!(refusal(&["warehouse.table=flows`"]).contains("is no table name"));
    assert!(refusal(&["limits.attempts=0"]).contains("at least 1"));
}

#[test]
fn a_way_out_that_is_none_and_settings_of_another_are_refused() {
    let gateway = |set: &[&str]| {
        let set: Vec<String> = set.iter().map(|&pair| pair.to_owned()).collect();
        Pipeline::resolve_for_gateway("inventory", &set).map(|pipeline| pipeline.gateway)
    };
    assert_eq!(gateway(&[]).expect("resolves").way_out().expect("a way"), WayOut::Batch);
    let refusal = |set: &[&str]| gateway(set).expect_err("refused").to_string();
    assert_eq!(refusal(&["gateway.out=pigeon"]), "`gateway.out` `pigeon` is unknown");
    for of_streams in ["template_suffix=_x", "skip_invalid_rows=true", "ignore_unknown_values=true"] {
        let refused = refusal(&[&format!("gateway.{of_streams}")]);
        assert!(refused.contains("needs `gateway.out = \"stream\"`"), "{refused}");
        Pipeline::resolve_to_look("inventory", &[format!("gateway.{of_streams}")]).expect("only looks");
    }
    let stream = ["gateway.out=stream", "gateway.template_suffix=_x"];
    assert_eq!(gateway(&stream).expect("resolves").template_suffix, "_x");
    assert!(refusal(&["gateway.out=stream", "gateway.template_suffix=a/b"]).contains("cannot end"));
}

#[test]
fn secrets_in_urls_are_not_in_the_settings() {
    let pipeline = flows(&["source.url=https://u:canary@host/x?token=canary"]).expect("resolves");
    assert!(!pipeline.settings().iter().any(|s| s.value.contains("canary")));
}

#[test]
fn a_file_with_a_syntax_error_or_an_unknown_key_names_the_line_or_the_key() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("p.toml");
    let resolve = |text: &str| {
        std::fs::write(&path, text).expect("written");
        let error = Pipeline::resolve(path.to_str().expect("UTF-8"), &[]).expect_err("refused");
        format!("{error} | {}", error.hint_text().unwrap_or_default())
    };
    assert!(resolve("name = \"a\"\n[source]\nurl = \n").contains("line 3"));
    assert!(resolve("[warehouse]\ntabel = \"x\"\n").contains("did you mean `warehouse.table`?"));
    assert!(resolve("").contains("is no pipeline name"));
    assert!(resolve("name = 3").contains("must be a string"));
    let folder = Pipeline::resolve(dir.path().to_str().expect("UTF-8"), &[]).expect_err("refused");
    assert!(folder.to_string().contains("is a folder"));
}

#[test]
fn names_that_bigquery_takes_are_taken() {
    for table in ["étudiant", "table-01", "00_お客様", "two words"] {
        assert!(flows(&[&format!("warehouse.table={table}")]).is_ok(), "{table}");
    }
}
