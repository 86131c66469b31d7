//! The part of Cloud Storage's XML API that object_store speaks.
//!
//! Here a bucket exists as soon as it is written to, so that a client which only knows this API needs no other.

use std::fmt::Write;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, Response, StatusCode, header};
use quick_xml::Reader;
use quick_xml::escape::escape;
use quick_xml::events::Event;

use super::layout::Bucket;
use super::listing::{PAGE_MAX, Page, Query};
use super::media::{header_text, read, rfc3339, with_header, with_version};
use super::objects::{Objects, check_generation};
use super::records::{Attributes, Conditions};
use super::{Storage, receive};
use crate::emulator::routes::unescaped;
use crate::emulator::run::blocking;
use crate::emulator::wire::{Arguments, Failure, Outcome};

const IF_GENERATION: &str = "x-goog-if-generation-match";
/// 1 MiB of completion XML names more parts than an upload may have.
const COMPLETION_BYTES_MAX: usize = 1 << 20;

pub(super) async fn answer(storage: Arc<Storage>, request: Request) -> Outcome<Response<Body>> {
    let (parts, body) = request.into_parts();
    let arguments = Arguments::parse(parts.uri.query());
    let raw = parts.uri.query().unwrap_or_default();
    let (bucket, key) = names(parts.uri.path())?;
    let objects = Arc::clone(&storage.objects);
    let upload = arguments.get("uploadId").map(str::to_owned);
    match (&parts.method, key.is_empty(), upload) {
        (&Method::GET, true, _) => {
            let list = blocking(move || list(&objects, &bucket, &arguments)).await?;
            Ok(xml(list))
        }
        (&Method::GET | &Method::HEAD, false, None) => {
            let object = blocking(move || {
                let generation = arguments.integer("generation")?;
                let object = objects.get(&bucket, &key)?;
                check_generation(&object.document, generation)?;
                Ok(object)
            });
            read(object.await?, &parts.headers, parts.method == Method::HEAD).await
        }
        (&Method::PUT, false, None) if parts.headers.contains_key("x-goog-copy-source") => {
            let source = header_text(&parts.headers, "x-goog-copy-source").unwrap_or_default();
            let (from, source) = names(source)?;
            let conditions = conditions(&parts.headers)?;
            let document = blocking(move || {
                let object = objects.get(&from, &source)?;
                let mut draft = objects.draft()?;
                draft.append_file(&object.file)?;
                objects.ensure_bucket(&bucket)?;
                let attributes = object.document.record.attributes;
                objects.put(&bucket, &key, draft, attributes, conditions)
            });
            let document = document.await?;
            let etag = escape(document.etag());
            let time = rfc3339(document.record.updated_ms);
            let text = format!(
                "<CopyObjectResult><ETag>{etag}</ETag><LastModified>{time}</LastModified></CopyObjectResult>"
            );
            Ok(with_version(xml(text), &document))
        }
        (&Method::PUT, false, None) => {
            let conditions = conditions(&parts.headers)?;
            let attributes = attributes(&parts.headers);
            let draft = receive(objects.draft()?, body).await?;
            let document = blocking(move || {
                objects.ensure_bucket(&bucket)?;
                objects.put(&bucket, &key, draft, attributes, conditions)
            });
            Ok(with_version(Response::new(Body::empty()), &document.await?))
        }
        (&Method::PUT, false, Some(upload)) => {
            let number = arguments.number("partNumber")?.and_then(|n| u32::try_from(n).ok());
            let number = number.ok_or_else(|| Failure::invalid("no partNumber"))?;
            let part = receive(objects.draft()?, body).await?;
            let etag = storage.uploads.put_part(&upload, number, part)?;
            Ok(with_header(Response::new(Body::empty()), header::ETAG.as_str(), &etag))
        }
        (&Method::POST, false, None) if raw.split('&').any(|a| a == "uploads" || a == "uploads=") => {
            let id = storage.uploads.start_parts(attributes(&parts.headers));
            let (bucket, key) = (escape(bucket.as_str()), escape(&key));
            Ok(xml(format!(
                "<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key>\
                 <UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            )))
        }
        (&Method::POST, false, Some(upload)) => {
            let document = axum::body::to_bytes(body, COMPLETION_BYTES_MAX).await;
            let document =
                document.map_err(|e| Failure::invalid(format!("the request body broke off: {e}")))?;
            let numbers = part_numbers(&String::from_utf8_lossy(&document))?;
            let conditions = conditions(&parts.headers)?;
            let completed = blocking(move || {
                storage.uploads.complete(&objects, &upload, &numbers, |draft, attributes| {
                    objects.ensure_bucket(&bucket)?;
                    objects.put(&bucket, &key, draft, attributes, conditions)
                })
            });
            let document = completed.await?;
            let (bucket, key) = (escape(document.bucket.as_str()), escape(&document.key));
            let etag = escape(document.etag());
            let text = format!(
                "<CompleteMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key><ETag>{etag}</ETag>\
                 </CompleteMultipartUploadResult>"
            );
            Ok(with_version(xml(text), &document))
        }
        (&Method::DELETE, false, upload) => {
            let conditions = conditions(&parts.headers)?;
            blocking(move || match upload {
                Some(upload) => storage.uploads.abort_parts(&upload),
                None => objects.delete(&bucket, &key, arguments.integer("generation")?, conditions),
            })
            .await?;
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        (method, _, _) => Err(Failure::not_implemented(format!("{method} {}", parts.uri.path()))),
    }
}

/// Bucket and key, whose slashes may come escaped or plain.
fn names(path: &str) -> Outcome<(Bucket, String)> {
    let path = path.trim_start_matches('/');
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    Ok((Bucket::parse(&unescaped(bucket)?)?, unescaped(key)?))
}

fn conditions(headers: &HeaderMap) -> Outcome<Conditions> {
    let generation = header_text(headers, IF_GENERATION).map(str::parse).transpose();
    let generation = generation.map_err(|_| Failure::invalid(format!("Invalid {IF_GENERATION}")))?;
    for name in ["x-goog-if-metageneration-match", "x-goog-if-generation-not-match"] {
        if headers.contains_key(name) {
            return Err(Failure::not_implemented(name));
        }
    }
    Ok(Conditions { generation, ..Conditions::default() })
}

/// What a client says of an object beside its bytes.
fn attributes(headers: &HeaderMap) -> Attributes {
    let mut attributes = Attributes::default();
    for (name, member) in [
        ("content-type", "contentType"),
        ("content-encoding", "contentEncoding"),
        ("content-disposition", "contentDisposition"),
        ("content-language", "contentLanguage"),
        ("cache-control", "cacheControl"),
    ] {
        if let Some(value) = header_text(headers, name).filter(|v| !v.is_empty()) {
            attributes.0.insert(member.to_owned(), value.into());
        }
    }
    let mut metadata = serde_json::Map::new();
    for (name, value) in headers {
        if let (Some(name), Ok(value)) = (name.as_str().strip_prefix("x-goog-meta-"), value.to_str()) {
            metadata.insert(name.to_owned(), value.into());
        }
    }
    if !metadata.is_empty() {
        attributes.0.insert("metadata".into(), metadata.into());
    }
    attributes
}

fn list(objects: &Objects, bucket: &Bucket, arguments: &Arguments) -> Outcome<String> {
    let after = arguments.get("continuation-token").or(arguments.get("start-after"));
    let max = arguments.number("max-keys")?.and_then(|n| usize::try_from(n).ok());
    let query = Query {
        prefix: arguments.get("prefix").unwrap_or_default().to_owned(),
        delimiter: arguments.get("delimiter").map(str::to_owned),
        after: after.unwrap_or_default().to_owned(),
        max: max.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX),
        ..Query::default()
    };
    // A bucket that nobody has written to yet is empty, as it would be after the first write.
    let page = match objects.list(bucket, &query) {
        Err(failure) if failure.code == 404 => Page::default(),
        listed => listed?,
    };
    let mut contents = String::new();
    for document in &page.objects {
        let _ = write!(
            contents,
            "<Contents><Key>{}</Key><Generation>{}</Generation><LastModified>{}</LastModified>\
             <ETag>{}</ETag><Size>{}</Size></Contents>",
            escape(&document.key),
            document.record.generation,
            rfc3339(document.record.updated_ms),
            escape(document.etag()),
            document.size()
        );
    }
    let mut text = format!(
        "<ListBucketResult><Name>{}</Name><Prefix>{}</Prefix><KeyCount>{}</KeyCount>\
         <IsTruncated>{}</IsTruncated>{contents}",
        escape(bucket.as_str()),
        escape(&query.prefix),
        page.objects.len() + page.prefixes.len(),
        page.next.is_some()
    );
    for folder in &page.prefixes {
        let _ = write!(text, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escape(folder));
    }
    if let Some(next) = &page.next {
        let _ = write!(text, "<NextContinuationToken>{}</NextContinuationToken>", escape(next));
    }
    text.push_str("</ListBucketResult>");
    Ok(text)
}

/// The parts that a CompleteMultipartUpload document names, in their order.
fn part_numbers(document: &str) -> Outcome<Vec<u32>> {
    let malformed = |_| Failure::invalid("MalformedXML");
    let mut reader = Reader::from_str(document);
    let mut numbers = Vec::new();
    loop {
        match reader.read_event().map_err(malformed)? {
            Event::Start(tag) if tag.local_name().as_ref() == "PartNumber" => {
                let text = reader.read_text(tag.name()).map_err(malformed)?;
                let number = text.trim().parse().map_err(|_| Failure::invalid("MalformedXML"))?;
                numbers.push(number);
            }
            Event::Eof => break,
            _ => {}
        }
    }
    let rising = numbers.windows(2).all(|pair: &[u32]| pair[0] < pair[1]);
    if numbers.is_empty() || !rising {
        return Err(Failure::invalid("InvalidPartOrder"));
    }
    Ok(numbers)
}

fn xml(text: String) -> Response<Body> {
    let document = format!("<?xml version='1.0' encoding='UTF-8'?>{text}");
    with_header(Response::new(Body::from(document)), "content-type", "application/xml; charset=UTF-8")
}

pub(super) fn error_response(failure: &Failure) -> Response<Body> {
    let code = match failure.code {
        404 => "NoSuchKey",
        412 => "PreconditionFailed",
        501 => "NotImplemented",
        400 => "InvalidArgument",
        _ => "InternalError",
    };
    let message = escape(&failure.message);
    let mut response = xml(format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"));
    *response.status_mut() = StatusCode::from_u16(failure.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_as_any_xml_names_them() {
        let document = "<?xml version='1.0'?>\n<s:CompleteMultipartUpload xmlns:s='http://x'><!-- <PartNumber>9 -->\
             <s:Part><s:PartNumber> 1 </s:PartNumber><ETag>&quot;a&quot;</ETag></s:Part>\
             <Part><ETag/><PartNumber>3</PartNumber></Part></s:CompleteMultipartUpload>";
        assert_eq!(part_numbers(document).unwrap(), [1, 3]);
        for (wrong, code) in [
            ("<a><PartNumber>2</PartNumber><PartNumber>1</PartNumber></a>", "InvalidPartOrder"),
            ("<a/>", "InvalidPartOrder"),
            ("<a><PartNumber>x</PartNumber></a>", "MalformedXML"),
            ("<a><PartNumber>1</a>", "MalformedXML"),
        ] {
            assert_eq!(part_numbers(wrong).unwrap_err().message, code, "{wrong}");
        }
    }

    #[test]
    fn a_page_that_ends_inside_of_a_folder_does_not_name_it_twice() {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::open(dir.path()).unwrap();
        let bucket = Bucket::parse("bucket").unwrap();
        objects.ensure_bucket(&bucket).unwrap();
        for key in ["a", "f/1", "f/2", "f/3", "g"] {
            let draft = objects.draft().unwrap();
            objects.put(&bucket, key, draft, Attributes::default(), Conditions::default()).unwrap();
        }
        let (mut token, mut found) = (String::new(), String::new());
        loop {
            let query = format!("delimiter=/&max-keys=1&continuation-token={token}");
            let page = list(&objects, &bucket, &Arguments::parse(Some(&query))).unwrap();
            found.push_str(&page);
            let Some((_, rest)) = page.split_once("<NextContinuationToken>") else { break };
            token = rest.split('<').next().unwrap().to_owned();
        }
        assert_eq!(found.matches("<Prefix>f/</Prefix>").count(), 1, "{found}");
        assert_eq!(found.matches("<Contents>").count(), 2, "{found}");
    }
}
