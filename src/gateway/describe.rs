//! What may be sent and what comes back: as metadata, as an OpenAPI document, and as a page.

use serde_json::{Map, Value, json};

use super::track::{PARAMETERS, State};
use crate::schema::{Column, ColumnType, Columns, Mode};

/// Another path of a pipeline, by which senders of the reference case know it: `/stream` takes rows.
pub(super) fn flow_path(pipeline: &str) -> String {
    format!("/ic/api/integration/v1/flows/rest/{pipeline}/1.0")
}

/// A pipeline as its senders see it.
#[derive(Debug)]
pub(super) struct Description {
    pipeline: String,
    columns: Columns,
    scheme: &'static str,
    /// Whether requests can be asked for.
    tracks: bool,
}

impl Description {
    pub(super) fn new(pipeline: &str, columns: &Columns, has_tls: bool, tracks: bool) -> Description {
        let scheme = if has_tls { "https" } else { "http" };
        Description { pipeline: pipeline.to_owned(), columns: columns.clone(), scheme, tracks }
    }

    /// The columns of a row, and an example.
    pub(super) fn metadata(&self) -> Value {
        let field = |column: &Column| {
            let mode = if column.mode == Mode::Required { "REQUIRED" } else { "NULLABLE" };
            json!({ "name": column.path(), "column": column.name, "type": column.kind.name(), "mode": mode })
        };
        json!({
            "pipeline": self.pipeline,
            "fields": self.columns.iter().map(field).collect::<Vec<_>>(),
            "accepts": ["application/json", "application/x-ndjson"],
            "content_encodings": ["identity", "gzip"],
            "example": self.example(),
        })
    }

    fn example(&self) -> Value {
        let value = |column: &Column| (column.path().to_owned(), example(column.kind));
        Value::Object(self.columns.iter().map(value).collect())
    }

    /// OpenAPI 3.1.
    pub(super) fn open_api(&self) -> Value {
        let property = |column: &Column| (column.path().to_owned(), schema(column));
        let properties: Map<String, Value> = self.columns.iter().map(property).collect();
        let required = self.columns.iter().filter(|column| column.mode == Mode::Required);
        let required: Vec<&str> = required.map(Column::path).collect();
        let row = json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "description": "Fields that are no columns are passed over, and named in the answer.",
            "examples": [self.example()],
        });
        let json_body = json!({
            "application/json": { "schema": { "oneOf": [
                { "$ref": "#/components/schemas/Row" },
                { "type": "array", "items": { "$ref": "#/components/schemas/Row" } },
            ] } },
            "application/x-ndjson": { "schema": { "type": "string", "description": "A row a line." } },
        });
        let responses = json!({
            "200": {
                "description": "Accepted rows are durable, and will be loaded. Rejected ones are not.",
                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Submitted" } } },
            },
            "400": problem("The body is not well formed, or has no rows. Nothing was stored."),
            "401": problem("User or password is missing or wrong."),
            "408": problem("The body came too slowly."),
            "409": problem("The Idempotency-Key came with another body before."),
            "413": problem("The body is too large."),
            "415": problem("The body is in a wrong type or encoding."),
            "422": problem("No row fits the columns, or more than 10,000 do not. Nothing was stored."),
            "429": problem("Too many wrong passwords came from this address; see Retry-After."),
            "503": problem("Rows cannot be stored at the moment; see Retry-After."),
        });
        let key = json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "schema": { "type": "string", "minLength": 1, "maxLength": 255 },
            "description": "The same key with the same body is stored once, and answered alike.",
        });
        let send = json!({
            "operationId": "send", "summary": "Send rows", "parameters": [key],
            "requestBody": { "required": true, "content": json_body }, "responses": responses,
        });
        let describe = json!({
            "operationId": "describe", "summary": "What a row holds",
            "responses": { "200": { "description": "Fields with their types." }, "401": problem("Not let in.") },
        });
        let rows = format!("/v1/{}", self.pipeline);
        let mut same = send.clone();
        same["operationId"] = json!("sendToFlow");
        same["summary"] = json!(format!("Send rows: the same as `{rows}`"));
        let (about, flow) = (format!("{rows}/metadata"), format!("{}/stream", flow_path(&self.pipeline)));
        let mut document = json!({
            "openapi": "3.1.0",
            "info": { "title": format!("api2bq gateway: {}", self.pipeline), "version": env!("CARGO_PKG_VERSION") },
            "security": [{ "basic": [] }],
            "paths": { rows: { "post": send }, about: { "get": describe }, flow: { "post": same } },
            "components": {
                "securitySchemes": { "basic": { "type": "http", "scheme": "basic" } },
                "schemas": { "Row": row, "Submitted": submitted_schema(), "Problem": problem_schema() },
            },
        });
        if self.tracks {
            document["paths"]["/track"] = json!({ "get": track() });
            document["components"]["schemas"]["Instance"] = instance_schema();
        }
        document
    }

    /// A page that needs nothing else: no script, no other file.
    pub(super) fn page(&self) -> String {
        let name = escape(&self.pipeline);
        let mut rows = String::new();
        for column in self.columns.iter() {
            let mode = if column.mode == Mode::Required { "required" } else { "" };
            let (path, kind, takes) = (escape(column.path()), column.kind.name(), spelling(column.kind));
            rows += &format!("<tr><td><code>{path}</code><td>{kind}<td>{mode}<td>{takes}\n");
        }
        let mut answers = String::new();
        let open_api = self.open_api();
        let responses = open_api["paths"][format!("/v1/{}", self.pipeline)]["post"]["responses"].as_object();
        for (status, response) in responses.into_iter().flatten() {
            let what = escape(response["description"].as_str().unwrap_or_default());
            answers += &format!("<tr><td>{status}<td>{what}\n");
        }
        let scheme = self.scheme;
        let example = escape(&self.example().to_string().replace('\'', "'\\''"));
        format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>api2bq gateway: {name}</title>\n\
            <meta name=\"viewport\" content=\"width=device-width\">\n<style>{STYLE}</style>\n\
            <h1>{name}</h1>\n<p>Rows are sent to <code>POST /v1/{name}</code>: one object, an array, or an object a \
            line (<code>application/x-ndjson</code>); gzip too.\n\
            <pre>curl -u USER -H 'Content-Type: application/json' \\\n  -d '{example}' \\\n  \
            {scheme}://HOST/v1/{name}</pre>\n\
            <h2>Fields</h2>\n<table><tr><th>name<th>type<th><th>takes\n{rows}</table>\n\
            <h2>Answers</h2>\n<table>\n{answers}</table>\n\
            <p><a href=\"/openapi.json\">OpenAPI document</a> \u{b7} <a href=\"/v1/{name}/metadata\">metadata</a> \
            \u{b7} <a href=\"/metrics\">metrics</a>\n</html>\n"
        )
    }
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:50em;margin:2em auto;padding:0 1em;\
    color:#222;background:#fff}pre,code{font-family:ui-monospace,monospace;background:#f3f3f3}\
    pre{padding:1em;overflow:auto}td,th{text-align:left;padding:.2em 1em .2em 0;vertical-align:top}\
    @media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}pre,code{background:#282828}a{color:#8bf}}";

/// What fills a column, in JSON.
fn spelling(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::String => "a text, or a number, which is kept as it is written",
        ColumnType::Int64 => "a whole number without point or exponent, or a text of one",
        ColumnType::Float64 => "a number, or a text of one; <code>\"NaN\"</code>, <code>\"inf\"</code>",
        ColumnType::Bool => "<code>true</code> or <code>false</code>, or a text of one",
        ColumnType::Numeric => "a number of up to 29 digits and 9 decimals, or a text of one",
        ColumnType::Date => "a text <code>YYYY-MM-DD</code>",
        ColumnType::Timestamp => "a text in RFC 3339, such as <code>2026-01-31T12:00:00Z</code>",
    }
}

fn example(kind: ColumnType) -> Value {
    match kind {
        ColumnType::String => json!("text"),
        ColumnType::Int64 => json!(1),
        ColumnType::Float64 => json!(0.5),
        ColumnType::Bool => json!(true),
        ColumnType::Numeric => json!("12.5"),
        ColumnType::Date => json!("2026-01-31"),
        ColumnType::Timestamp => json!("2026-01-31T12:00:00Z"),
    }
}

fn schema(column: &Column) -> Value {
    let mut types = match column.kind {
        ColumnType::String | ColumnType::Float64 | ColumnType::Numeric => vec!["string", "number"],
        ColumnType::Int64 => vec!["integer", "string"],
        ColumnType::Bool => vec!["boolean", "string"],
        ColumnType::Date | ColumnType::Timestamp => vec!["string"],
    };
    if column.mode == Mode::Nullable {
        types.push("null");
    }
    let mut schema = json!({ "type": types, "description": column.kind.name() });
    match column.kind {
        ColumnType::Date => schema["format"] = json!("date"),
        ColumnType::Timestamp => schema["format"] = json!("date-time"),
        _ => {}
    }
    schema
}

fn problem(what: &str) -> Value {
    let content = json!({ "application/json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
    json!({ "description": what, "content": content })
}

fn track() -> Value {
    let parameter = |(name, what): (&str, &str)| {
        let kind = match name {
            "limit" => "integer",
            "payload" => "boolean",
            _ => "string",
        };
        json!({ "name": name, "in": "query", "required": false, "description": what, "schema": { "type": kind } })
    };
    let page = json!({
        "type": "object",
        "properties": {
            "pipeline": { "type": "string" },
            "fields": { "type": "array", "items": { "type": "string" }, "description": "The primary one first." },
            "trace": { "type": "boolean", "description": "Whether bodies are kept." },
            "instances": { "type": "array", "items": { "$ref": "#/components/schemas/Instance" } },
            "next": { "type": ["string", "null"], "description": "The `cursor` of the next page." },
            "unreadable": { "type": "array", "items": { "type": "string" } },
        },
        "required": ["pipeline", "fields", "trace", "instances", "next"],
    });
    json!({
        "operationId": "track", "summary": "What became of requests, the newest first",
        "parameters": PARAMETERS.map(parameter),
        "responses": {
            "200": { "description": "A page of requests.", "content": { "application/json": { "schema": page } } },
            "400": problem("A parameter is wrong; it is named."),
            "401": problem("User or password is missing or wrong."),
            "429": problem("Too many wrong passwords came from this address; see Retry-After."),
            "503": problem("Others are being looked for, or the journal cannot be read; see Retry-After."),
        },
    })
}

fn instance_schema() -> Value {
    let text = || json!({ "type": "string" });
    json!({
        "type": "object",
        "description": "One request.",
        "properties": {
            "id": text(),
            "time": { "type": "string", "format": "date-time" },
            "user": text(),
            "state": { "enum": State::ALL.map(State::word) },
            "accepted": { "type": "integer" },
            "rejected": { "type": "integer" },
            "identifiers": { "type": "array", "items": {
                "type": "object",
                "properties": {
                    "field": text(),
                    "values": { "type": "array", "items": { "type": "string" } },
                    "more": { "type": "integer", "description": "Values that are not shown." },
                },
                "required": ["field", "values"],
            } },
            "rejects": rejected_schema(),
            "table": text(),
            "job_id": text(),
            "reason": { "type": "string", "description": "Why it was rejected, or failed." },
            "payload": text(),
            "payload_base64": { "type": "string", "description": "A payload that is not in UTF-8." },
        },
        "required": ["id", "time", "user", "state", "accepted", "rejected", "identifiers"],
    })
}

fn rejected_schema() -> Value {
    json!({ "type": "array", "items": {
        "type": "object",
        "properties": {
            "index": { "type": "integer", "description": "Place in the body, from 0." },
            "field": { "type": "string" },
            "reason": { "type": "string" },
        },
        "required": ["index", "reason"],
    } })
}

fn submitted_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "response": { "const": "Submitted" },
            "accepted": { "type": "integer" },
            "rejected": rejected_schema(),
            "ignored_fields": { "type": "array", "items": { "type": "string" } },
            "id": { "type": "string" },
        },
        "required": ["response", "accepted", "rejected", "id"],
    })
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "properties": { "error": {
            "type": "object",
            "properties": {
                "status": { "type": "integer" },
                "reason": { "type": "string", "description": "For programs; it stays." },
                "message": { "type": "string" },
                "line": { "type": "integer" },
                "column": { "type": "integer" },
                "parameter": { "type": "string" },
                "id": { "type": "string", "description": "By which an operator finds the request." },
                "rejected": rejected_schema(),
            },
            "required": ["status", "reason", "message"],
        } },
        "required": ["error"],
    })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
