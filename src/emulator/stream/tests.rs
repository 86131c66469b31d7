use super::window::Ids;
use super::*;

#[test]
fn an_id_is_new_once() {
    let mut ids = Ids::default();
    assert_eq!(ids.fresh([Some("a"), None, Some("a"), None].into_iter()), [true, true, false, true]);
    // What was not stored may come again.
    assert_eq!(ids.fresh([Some("a")].into_iter()), [true]);
    ids.remember(["a"].into_iter());
    assert_eq!(ids.fresh([Some("a"), Some("b")].into_iter()), [false, true]);
}

#[test]
fn one_wrong_row_stops_the_others() {
    let wrong = || Err(Wrong { location: "n".into(), message: "m".into() });
    let rows = [Ok(Vec::new()), wrong()];
    let reasons = |stores_rest| {
        let errors = insert_errors(&rows, stores_rest);
        errors.iter().map(|e| (e["index"].clone(), e["errors"][0]["reason"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(reasons(false), [(json!(0), json!("stopped")), (json!(1), json!("invalid"))]);
    assert_eq!(reasons(true), [(json!(1), json!("invalid"))]);
}
