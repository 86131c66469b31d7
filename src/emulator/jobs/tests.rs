use super::*;

fn document(id: &str, ended_ms: i64) -> JobDocument {
    serde_json::from_value(json!({
        "project": "p", "id": id, "location": "US", "configuration": {"query": {}}, "state": "Done",
        "created_ms": 1, "ended_ms": ended_ms, "statistics": null,
    }))
    .unwrap()
}

#[test]
fn a_job_is_remembered_for_half_a_year_after_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let jobs = Jobs::open(dir.path(), &catalog).unwrap();
    let ago = |days: i64| now_ms() - days * 24 * 3_600_000;
    jobs.create(document("old", ago(181))).unwrap();
    jobs.create(document("young", ago(179))).unwrap();
    let running = JobDocument { state: State::Running, ended_ms: None, ..document("running", 0) };
    jobs.create(running).unwrap();
    jobs.sweep();
    let project = ProjectId::parse("p").unwrap();
    let found = |jobs: &Jobs| ["old", "young", "running"].map(|id| jobs.find(&project, id).is_ok());
    assert_eq!(found(&jobs), [false, true, true]);
    let reopened = Jobs::open(dir.path(), &catalog).unwrap();
    assert_eq!(found(&reopened), [false, true, true]);
    // The id is free again.
    jobs.create(document("old", now_ms())).unwrap();
}
