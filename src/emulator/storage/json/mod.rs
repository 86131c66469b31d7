//! The JSON API, as far as Google's clients use it for buckets and objects.

mod batch;
mod upload;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, Response, header};
use serde_json::{Map, Value, json};

use super::Storage;
use super::layout::Bucket;
use super::listing::{PAGE_MAX, Query};
use super::media;
use super::objects::{Objects, check_generation};
use super::records::{BucketDocument, Conditions, ObjectDocument};
use super::resources;
use crate::emulator::routes::path_segments;
use crate::emulator::run::blocking;
use crate::emulator::wire::{self, Arguments, Failure, Outcome, Reply, text};

pub(super) use upload::Wanted;

type Sent = Map<String, Value>;

const COMPOSED_MAX: usize = 32;

pub(super) async fn answer(storage: &Arc<Storage>, request: Request) -> Outcome<Response<Body>> {
    let (parts, body) = request.into_parts();
    let arguments = Arguments::parse(parts.uri.query());
    let segments = path_segments(parts.uri.path())?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    refuse_unknown(&arguments, &parts.headers)?;
    match (&parts.method, segments.as_slice()) {
        (_, ["upload", "storage", "v1", "b", bucket, "o"]) => {
            let bucket = Bucket::parse(bucket)?;
            upload::answer(storage, &parts.method, bucket, &arguments, &parts.headers, body).await
        }
        (&Method::POST, ["batch", "storage", "v1"]) => batch::answer(storage, &parts.headers, body).await,
        (&Method::GET, ["storage" | "download", .., "o", _]) if is_media(&segments, &arguments) => {
            let (bucket, key) = match segments.as_slice() {
                ["download", "storage", "v1", "b", b, "o", o] | ["storage", "v1", "b", b, "o", o] => {
                    (Bucket::parse(b)?, (*o).to_owned())
                }
                _ => return Err(no_method(&parts.method, &segments)),
            };
            let objects = Arc::clone(&storage.objects);
            let object = blocking(move || {
                let object = objects.get(&bucket, &key)?;
                check_read(&object.document, &arguments)?;
                Ok(object)
            });
            media::read(object.await?, &parts.headers, false).await
        }
        _ => {
            let sent = wire::read_object(&parts.headers, body).await?;
            let base = base_url(&parts.headers);
            let (objects, method) = (Arc::clone(&storage.objects), parts.method.clone());
            let segments: Vec<String> = segments.into_iter().map(str::to_owned).collect();
            let reply = blocking(move || document(&objects, &method, &segments, &arguments, &sent, &base));
            Ok(wire::response(Ok(reply.await?)))
        }
    }
}

/// Everything that takes and answers documents.
fn document(
    objects: &Objects,
    method: &Method,
    segments: &[String],
    arguments: &Arguments,
    sent: &Sent,
    base: &str,
) -> Outcome<Reply> {
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let path = segments.strip_prefix(&["storage", "v1"]).unwrap_or_default();
    let shown = |document: ObjectDocument| Ok(Reply::Json(resources::object(&document, base)));
    let (get, post, delete) = (method == Method::GET, method == Method::POST, method == Method::DELETE);
    // The clients' `update` sends all that they know of a thing; what it leaves out it did not know.
    let change = method == Method::PATCH || method == Method::PUT;
    match path {
        ["b"] if post => insert_bucket(objects, sent, base),
        ["b"] if get => list_buckets(objects, arguments, base),
        ["b", b] if get || change || delete => {
            let bucket = Bucket::parse(b)?;
            let conditions = conditions(arguments, "if")?;
            let check = |d: &BucketDocument| conditions.check_metageneration(d.metageneration);
            if delete {
                objects.delete_bucket(&bucket, check)?;
                return Ok(Reply::NoContent);
            }
            let document = if get {
                let document = objects.bucket(&bucket)?;
                check(&document)?;
                document
            } else {
                objects.change_bucket(&bucket, |document| {
                    check(document)?;
                    resources::merge_bucket(document, sent)
                })?
            };
            Ok(Reply::Json(resources::bucket(&document, base)))
        }
        ["b", b, "o"] if get => list_objects(objects, &Bucket::parse(b)?, arguments, base),
        ["b", b, "o", o] if get => {
            let document = objects.get(&Bucket::parse(b)?, o)?.document;
            check_read(&document, arguments)?;
            shown(document)
        }
        ["b", b, "o", o] if delete => {
            let generation = arguments.integer("generation")?;
            objects.delete(&Bucket::parse(b)?, o, generation, conditions(arguments, "if")?)?;
            Ok(Reply::NoContent)
        }
        ["b", b, "o", o] if change => {
            let generation = arguments.integer("generation")?;
            let conditions = conditions(arguments, "if")?;
            shown(objects.change(&Bucket::parse(b)?, o, generation, conditions, |attributes| {
                resources::merge_attributes(attributes, sent)
            })?)
        }
        ["b", b, "o", o, "compose"] if post => {
            shown(compose(objects, &Bucket::parse(b)?, o, arguments, sent)?)
        }
        ["b", b, "o", o, "copyTo", "b", to_b, "o", to_o] if post => {
            let (from, to) = (Bucket::parse(b)?, Bucket::parse(to_b)?);
            shown(copy(objects, (&from, o), (&to, to_o), arguments, sent)?)
        }
        ["b", b, "o", o, "rewriteTo", "b", to_b, "o", to_o] if post => {
            let (from, to) = (Bucket::parse(b)?, Bucket::parse(to_b)?);
            let document = copy(objects, (&from, o), (&to, to_o), arguments, sent)?;
            let size = document.size().to_string();
            Ok(Reply::Json(json!({
                "kind": "storage#rewriteResponse",
                "totalBytesRewritten": size,
                "objectSize": size,
                "done": true,
                "resource": resources::object(&document, base),
            })))
        }
        _ => Err(no_method(method, &segments)),
    }
}

fn insert_bucket(objects: &Objects, sent: &Sent, base: &str) -> Outcome<Reply> {
    let name = text(sent, "name").ok_or_else(|| Failure::invalid("Required parameter is missing: name"))?;
    let name = Bucket::parse(name)?;
    let location = text(sent, "location").filter(|l| !l.is_empty()).unwrap_or("US");
    let mut document = BucketDocument::new(&name, location);
    resources::merge_bucket(&mut document, sent)?;
    objects.insert_bucket(&name, &document)?;
    Ok(Reply::Json(resources::bucket(&document, base)))
}

fn list_buckets(objects: &Objects, arguments: &Arguments, base: &str) -> Outcome<Reply> {
    let prefix = arguments.get("prefix").unwrap_or_default();
    let after = arguments.get("pageToken").unwrap_or_default();
    let max = page_size(arguments)?;
    let mut found = objects.buckets()?;
    found.retain(|b| b.as_str().starts_with(prefix) && b.as_str() > after);
    let next = (found.len() > max).then(|| found[max - 1].as_str().to_owned());
    found.truncate(max);
    let items = found.iter().map(|b| Ok(resources::bucket(&objects.bucket(b)?, base)));
    let mut list = json!({"kind": "storage#buckets", "items": items.collect::<Outcome<Vec<Value>>>()?});
    if let Some(next) = next {
        list["nextPageToken"] = json!(next);
    }
    Ok(Reply::Json(list))
}

fn list_objects(objects: &Objects, bucket: &Bucket, arguments: &Arguments, base: &str) -> Outcome<Reply> {
    for unsupported in ["matchGlob", "softDeleted", "filter"] {
        if arguments.get(unsupported).is_some_and(|v| v != "false") {
            return Err(Failure::not_implemented(format!("{unsupported} in Cloud Storage")));
        }
    }
    let owned = |name: &str| arguments.get(name).map(str::to_owned);
    let page = objects.list(
        bucket,
        &Query {
            prefix: owned("prefix").unwrap_or_default(),
            delimiter: owned("delimiter"),
            after: owned("pageToken").unwrap_or_default(),
            start: owned("startOffset").unwrap_or_default(),
            end: owned("endOffset"),
            max: page_size(arguments)?,
        },
    )?;
    let mut list = json!({"kind": "storage#objects"});
    if !page.objects.is_empty() {
        list["items"] = page.objects.iter().map(|d| resources::object(d, base)).collect();
    }
    if !page.prefixes.is_empty() {
        list["prefixes"] = json!(page.prefixes);
    }
    if let Some(next) = page.next {
        list["nextPageToken"] = json!(next);
    }
    Ok(Reply::Json(list))
}

/// Joins objects of one bucket. The result has no MD5, as in Cloud Storage.
fn compose(
    objects: &Objects,
    bucket: &Bucket,
    key: &str,
    arguments: &Arguments,
    sent: &Sent,
) -> Outcome<ObjectDocument> {
    let sources = sent.get("sourceObjects").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if sources.is_empty() || sources.len() > COMPOSED_MAX {
        let message = format!("The number of source components provided ({}) is not 1 to 32", sources.len());
        return Err(Failure::invalid(message));
    }
    if sent.get("deleteSourceObjects").and_then(Value::as_bool) == Some(true) {
        return Err(Failure::not_implemented("deleteSourceObjects in Cloud Storage"));
    }
    let mut draft = objects.draft()?;
    let mut count = 0;
    for source in sources {
        let name = source.get("name").and_then(Value::as_str);
        let name =
            name.ok_or_else(|| Failure::invalid("Required parameter is missing: sourceObjects.name"))?;
        let object = objects.get(bucket, name)?;
        let number = |value: &Value| wire::integer_of(value, "sourceObjects");
        let generation = source.get("generation").map(number).transpose()?.flatten();
        check_generation(&object.document, generation)?;
        let wanted = source.pointer("/objectPreconditions/ifGenerationMatch").map(number).transpose()?;
        let conditions = Conditions { generation: wanted.flatten(), ..Conditions::default() };
        conditions.check(Some(&object.document.record))?;
        draft.append_file(&object.file)?;
        count += object.document.record.component_count.unwrap_or(1);
    }
    let destination = sent.get("destination").and_then(Value::as_object).cloned().unwrap_or_default();
    let attributes = resources::attributes(&destination)?;
    objects.put_as(bucket, key, draft, conditions(arguments, "if")?, |record| {
        record.attributes = attributes;
        record.md5 = None;
        record.component_count = Some(count);
        Ok(())
    })
}

/// A body says what the copy's attributes are; without one they are the source's.
fn copy(
    objects: &Objects,
    (from, source): (&Bucket, &str),
    (to, key): (&Bucket, &str),
    arguments: &Arguments,
    sent: &Sent,
) -> Outcome<ObjectDocument> {
    let object = objects.get(from, source)?;
    check_generation(&object.document, arguments.integer("sourceGeneration")?)?;
    conditions(arguments, "ifSource")?.check(Some(&object.document.record))?;
    let mut draft = objects.draft()?;
    draft.append_file(&object.file)?;
    let sent_attributes = resources::attributes(sent)?;
    let record = object.document.record;
    let attributes = if sent.is_empty() { record.attributes } else { sent_attributes };
    objects.put_as(to, key, draft, conditions(arguments, "if")?, |copied| {
        copied.attributes = attributes;
        copied.component_count = record.component_count;
        if record.md5.is_none() {
            copied.md5 = None;
        }
        Ok(())
    })
}

/// `ifGenerationMatch` and its kin, or with `ifSource` those that are about a copy's source.
fn conditions(arguments: &Arguments, prefix: &str) -> Outcome<Conditions> {
    let number = |name: &str| arguments.integer(&format!("{prefix}{name}"));
    Ok(Conditions {
        generation: number("GenerationMatch")?,
        not_generation: number("GenerationNotMatch")?,
        metageneration: number("MetagenerationMatch")?,
        not_metageneration: number("MetagenerationNotMatch")?,
    })
}

/// A reader that has the object already is told so.
fn check_read(document: &ObjectDocument, arguments: &Arguments) -> Outcome<()> {
    check_generation(document, arguments.integer("generation")?)?;
    let conditions = conditions(arguments, "if")?;
    let positive = Conditions { not_generation: None, not_metageneration: None, ..conditions };
    positive.check(Some(&document.record))?;
    conditions.check(Some(&document.record)).map_err(|failure| Failure { code: 304, ..failure })
}

fn is_media(segments: &[&str], arguments: &Arguments) -> bool {
    segments.first() == Some(&"download") || arguments.get("alt") == Some("media")
}

/// What would be another object, or another answer, if it were ignored.
fn refuse_unknown(arguments: &Arguments, headers: &HeaderMap) -> Outcome<()> {
    if headers.keys().any(|name| name.as_str().contains("goog-encryption")) {
        return Err(Failure::not_implemented("customer-supplied encryption keys in Cloud Storage"));
    }
    for name in ["kmsKeyName", "destinationKmsKeyName", "uploadSessionCrc32c"] {
        if arguments.get(name).is_some() {
            return Err(Failure::not_implemented(format!("{name} in Cloud Storage")));
        }
    }
    Ok(())
}

fn page_size(arguments: &Arguments) -> Outcome<usize> {
    let max = arguments.number("maxResults")?.and_then(|n| usize::try_from(n).ok());
    Ok(max.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX))
}

/// The server as the client calls it, for the links in documents.
fn base_url(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or("localhost");
    format!("http://{host}")
}

fn no_method(method: &Method, segments: &[&str]) -> Failure {
    Failure::not_implemented(format!("{method} /{}", segments.join("/")))
}
