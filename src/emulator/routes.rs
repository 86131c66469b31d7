//! Which method and path does what.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::response::Response;
use futures::StreamExt;
use serde_json::{Map, Value, json};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;

use super::Emulator;
use super::faults::Bad;
use super::names::{Address, DatasetId, ProjectId};
use super::partial::Selection;
use super::run::{self, blocking};
use super::wire::{self, Arguments, Failure, Outcome, Reply};
use super::{datasets, discovery, iam, query, rows, storage, stream, tables, upload};

/// Methods that this server does not have answer 501 in BigQuery's error shape.
pub(super) fn router(emulator: Arc<Emulator>) -> Router {
    // The fastest level: the other end is on the same machine.
    let gzip =
        CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(wire::is_compressible);
    Router::new().fallback(handle).with_state(emulator).layer(gzip)
}

/// Cloud Storage alone.
pub(super) fn storage_router(emulator: Arc<Emulator>) -> Router {
    Router::new().fallback(handle_storage).with_state(emulator)
}

/// A request that has come is done to its end: a client that hangs up on its insert must not leave
/// a job behind that nobody runs.
async fn handle(State(emulator): State<Arc<Emulator>>, request: Request) -> Response {
    let is_storage = storage::is_storage_path(request.uri().path());
    to_the_end(emulator, request, is_storage).await
}

async fn handle_storage(State(emulator): State<Arc<Emulator>>, request: Request) -> Response {
    to_the_end(emulator, request, true).await
}

async fn to_the_end(emulator: Arc<Emulator>, request: Request, is_storage: bool) -> Response {
    let served = tokio::spawn(respond(emulator, request, is_storage)).await;
    served.unwrap_or_else(|e| wire::response(Err(Failure::backend(format!("a request died: {e}")))))
}

async fn respond(emulator: Arc<Emulator>, request: Request, is_storage: bool) -> Response {
    let path = request.uri().path().to_owned();
    let Some(bad) = emulator.faults.on_call(request.method(), &path, is_storage) else {
        return serve(&emulator, request, is_storage).await;
    };
    let error = |failure: Failure| match is_storage {
        true => storage::error_response(&path, failure),
        false => wire::response(Err(failure)),
    };
    match bad {
        // What is not read would reset the connection, and the client might not see the answer.
        Bad::Refuse(failure) => {
            drain(request.into_body()).await;
            error(failure)
        }
        Bad::HangUp => {
            drain(request.into_body()).await;
            wire::hang_up()
        }
        Bad::HangUpAfter => {
            serve(&emulator, request, is_storage).await;
            wire::hang_up()
        }
        Bad::RefuseAfter(failure) => {
            serve(&emulator, request, is_storage).await;
            error(failure)
        }
    }
}

async fn serve(emulator: &Arc<Emulator>, request: Request, is_storage: bool) -> Response {
    if is_storage {
        return storage::handle(Arc::clone(&emulator.storage), request).await;
    }
    let response = match upload::project_of(request.uri().path()) {
        Some(project) => upload::handle(emulator, &project, request).await,
        None => wire::response(answer(emulator, request).await),
    };
    for late in emulator.faults.landing() {
        run::land(emulator, late).await;
    }
    response
}

async fn drain(body: Body) {
    let mut chunks = body.into_data_stream();
    while let Some(Ok(_)) = chunks.next().await {}
}

async fn answer(emulator: &Arc<Emulator>, request: Request) -> Outcome<Reply> {
    let path = request.uri().path();
    let segments = path_segments(path.strip_prefix("/bigquery/v2").unwrap_or(path))?;
    let arguments = Arguments::parse(request.uri().query());
    let names: Vec<&str> = segments.iter().map(String::as_str).collect();
    if names == ["token"] && request.method() == Method::POST {
        // Whatever a service account asserts is taken for granted.
        drain(request.into_body()).await;
        return Ok(Reply::Json(
            json!({"access_token": "embedded", "token_type": "Bearer", "expires_in": 3600}),
        ));
    }
    if discovery::is_asked_for(&names) && request.method() == Method::GET {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        return Ok(Reply::Json(discovery::document(&format!("http://{}/", host.unwrap_or("127.0.0.1")))));
    }
    let wanted = arguments.get("fields").map(Selection::parse).transpose()?;
    let reply = on_service(emulator, request, segments, arguments).await?;
    match wanted {
        Some(wanted) => wanted.apply(reply),
        None => Ok(reply),
    }
}

async fn on_service(
    emulator: &Arc<Emulator>,
    request: Request,
    segments: Vec<String>,
    arguments: Arguments,
) -> Outcome<Reply> {
    let (parts, body) = request.into_parts();
    let body = match segments.last().is_some_and(|last| last == "insertAll") {
        true => wire::read_rows(&parts.headers, body).await?,
        false => wire::read_object(&parts.headers, body).await?,
    };
    let if_match = parts.headers.get(header::IF_MATCH).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let location = || arguments.get("location");
    let project = |id: &str| ProjectId::parse(id);

    // The two that wait and the two that start jobs are at home in async code; all others touch files.
    match (&parts.method, segments.as_slice()) {
        (&Method::POST, ["projects", p, "jobs"]) => {
            return run::insert(emulator, project(p)?, &body, None).await;
        }
        (&Method::POST, ["projects", p, "queries"]) => return run::query(emulator, project(p)?, &body).await,
        (&Method::GET, ["projects", p, "queries", id]) => {
            let job = emulator.jobs.get(&project(p)?, id, location())?;
            return run::query_results(emulator, &job, arguments).await;
        }
        _ => {}
    }
    let mut body = body;
    if let ["projects", p, "datasets", d, "tables", ..] = segments.as_slice()
        && parts.method != Method::GET
        && let Some(view) = wire::object(&body, "view")
    {
        let (project, dataset) = (project(p)?, DatasetId::parse(d)?);
        let described =
            query::view_document(emulator, &project, &dataset, view, wire::object(&body, "schema"));
        let (view, schema) = described.await?;
        body.insert("view".into(), view);
        body.insert("schema".into(), schema);
    }
    let segments: Vec<String> = segments.into_iter().map(str::to_owned).collect();
    let (emulator, method) = (Arc::clone(emulator), parts.method);
    blocking(move || {
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        on_files(&emulator, &method, &segments, &arguments, &body, if_match.as_deref())
    })
    .await
}

fn on_files(
    emulator: &Emulator,
    method: &Method,
    segments: &[&str],
    arguments: &Arguments,
    body: &Map<String, Value>,
    if_match: Option<&str>,
) -> Outcome<Reply> {
    let Emulator { catalog, jobs, .. } = emulator;
    let project = |id: &str| ProjectId::parse(id);
    let location = arguments.get("location");
    let (get, post) = (method == Method::GET, method == Method::POST);
    let (delete, patch) = (method == Method::DELETE, method == Method::PATCH || method == Method::PUT);
    let put = method == Method::PUT;
    match segments {
        ["projects"] if get => Ok(projects(emulator)),
        ["projects", p, "serviceAccount"] if get => {
            let project = project(p)?;
            Ok(Reply::Json(json!({
                "kind": "bigquery#getServiceAccountResponse",
                "email": format!("bq-{project}@bigquery-encryption.iam.gserviceaccount.com"),
            })))
        }
        ["projects", p, "datasets"] if post => datasets::insert(catalog, project(p)?, body),
        ["projects", p, "datasets"] if get => datasets::list(catalog, &project(p)?, arguments),
        ["projects", p, "datasets", d] => {
            let (project, dataset) = (project(p)?, DatasetId::parse(d)?);
            if get {
                Ok(Reply::Json(catalog.dataset(&project, &dataset)?.document().resource()))
            } else if patch {
                datasets::change(catalog, &project, &dataset, body, if_match, put)
            } else if delete {
                let contents = arguments.flag("deleteContents");
                catalog.delete_dataset(&project, &dataset, contents, |document, commits| {
                    tables::check_etag(if_match, &document.etag())?;
                    jobs.attest(commits)
                })?;
                Ok(Reply::NoContent)
            } else {
                Err(no_method(method, segments))
            }
        }
        ["projects", p, "datasets", d, "tables"] if post => {
            tables::insert_table(catalog, &project(p)?, d, body)
        }
        ["projects", p, "datasets", d, "tables"] if get => {
            tables::list_tables(catalog, &project(p)?, &DatasetId::parse(d)?, arguments)
        }
        ["projects", p, "datasets", d, "tables", t] if t.contains(':') => match t.split_once(':') {
            Some((table, method)) if post => {
                let address = Address::parse(p, d, table)?.present()?;
                iam::answer(catalog, &address.name, method, body)
            }
            _ => Err(no_method(method, segments)),
        },
        ["projects", p, "datasets", d, "tables", t] if get && t.ends_with(tables::PARTITIONS_SUMMARY) => {
            let table = t.trim_end_matches(tables::PARTITIONS_SUMMARY);
            tables::get_partitions_summary(catalog, &Address::parse(p, d, table)?)
        }
        ["projects", p, "datasets", d, "tables", t] => {
            let address = Address::parse(p, d, t)?;
            if get {
                tables::get_table(catalog, &address)
            } else if put {
                tables::update_table(catalog, &address, body, if_match)
            } else if patch {
                tables::patch_table(catalog, &address, body, if_match)
            } else if delete {
                tables::delete_table(catalog, jobs, &address, if_match)
            } else {
                Err(no_method(method, segments))
            }
        }
        ["projects", p, "datasets", d, "tables", t, "data"]
            if get && t.ends_with(tables::PARTITIONS_SUMMARY) =>
        {
            let table = t.trim_end_matches(tables::PARTITIONS_SUMMARY);
            tables::list_partitions_summary(catalog, &Address::parse(p, d, table)?, arguments)
        }
        ["projects", p, "datasets", d, "tables", t, "data"] if get => {
            rows::list(catalog, &Address::parse(p, d, t)?, arguments)
        }
        ["projects", p, "datasets", d, "tables", t, "insertAll"] if post => {
            stream::insert_all(emulator, Address::parse(p, d, t)?, body)
        }
        ["projects", p, "jobs"] if get => jobs.list(&project(p)?, arguments),
        ["projects", p, "jobs", id] if get => {
            let mut document = jobs.get(&project(p)?, id, location)?.document();
            if emulator.faults.shows_running(&document.id) {
                document = document.into_running();
            }
            Ok(Reply::Json(document.resource()))
        }
        ["projects", p, "jobs", id, "delete"] if delete => {
            let job = jobs.get(&project(p)?, id, location)?;
            jobs.delete(&job)
        }
        ["projects", p, "jobs", id, "cancel"] if post => {
            let job = jobs.get(&project(p)?, id, location)?;
            Ok(jobs.cancel(&job))
        }
        _ => Err(no_method(method, segments)),
    }
}

fn no_method(method: &Method, segments: &[&str]) -> Failure {
    Failure::not_implemented(format!("{method} /{}", segments.join("/")))
}

fn projects(emulator: &Emulator) -> Reply {
    let list: Vec<Value> = emulator
        .catalog
        .projects()
        .iter()
        .enumerate()
        .map(|(index, project)| {
            json!({
                "kind": "bigquery#project",
                "id": project.as_str(),
                "numericId": (index + 1).to_string(),
                "projectReference": {"projectId": project.as_str()},
                "friendlyName": project.as_str(),
            })
        })
        .collect();
    Reply::Json(json!({"kind": "bigquery#projectList", "totalItems": list.len(), "projects": list}))
}

/// Split first, then decoded: an escaped slash does not make a new segment.
pub(super) fn path_segments(path: &str) -> Outcome<Vec<String>> {
    path.split('/').filter(|s| !s.is_empty()).map(unescaped).collect()
}

pub(super) fn unescaped(text: &str) -> Outcome<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let code = rest.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = code.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.ok_or_else(|| Failure::invalid("the path has a damaged escape"))?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| Failure::invalid("the path is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded_after_the_split() {
        assert_eq!(path_segments("/projects/p%2Fq/x%24y/").unwrap(), ["projects", "p/q", "x$y"]);
        assert!(path_segments("/a%2").is_err());
        assert!(path_segments("/a%zz").is_err());
        assert!(path_segments("/%FF").is_err());
    }
}
